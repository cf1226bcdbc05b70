"""Scores that came out wrong elsewhere without any error, each as a test. Thread names are GitHub's."""

import json
import logging

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, pipeline

from tiny_models import (
    CHATML,
    LLAMA_LIKE,
    loaded,
    make_checkpoint,
    make_tokenizer,
    plain_rewards,
    save_base,
    save_classifier,
    save_encoder,
    with_end,
)
from trueup.data.rows import Message
from trueup.data.templates import infer_format, render
from trueup.errors import CheckpointError, NonFiniteError
from trueup.models.adapters import merge
from trueup.models.checkpoints import load_reward_model, new_reward_model, save_reward_model
from trueup.models.reward import RewardModel
from trueup.models.tokenizers import load_tokenizer
from trueup.recipes.data import DataRecipe
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.rewards.model import ModelReward

PROMPTS = ["What is the capital of France? ", "Name three fruits. ", "Boil an egg. "]
RESPONSES = [["Paris.", "Lyon is the capital of France, a country.", ""], ["Apples, pears."], ["Seven minutes.", "No."]]
NAMES = {"special": ("<|role|>", "<|eot_id|>")}


def scores(checkpoint, prompts=PROMPTS, responses=RESPONSES, **options):
    return ModelReward(checkpoint=checkpoint, name="model", **options).score(prompts, responses).reward


def rendered(checkpoint, prompts=PROMPTS, responses=RESPONSES):
    pairs = [(prompt, text) for prompt, group in zip(prompts, responses, strict=True) for text in group]
    texts = (render(prompt, text, tokenizer=checkpoint.tokenizer, form=checkpoint.form) for prompt, text in pairs)
    return [with_end(text, checkpoint) for text in texts]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A Llama trained on plain text, with BOS and EOS."""
    folder = tmp_path_factory.mktemp("plain")
    return loaded(save_base(folder / "base", make_tokenizer(bos="<s>")), folder / "model", kind="plain")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each way to make text."""
    root = tmp_path_factory.mktemp("folders")
    made = {
        "plain": (make_tokenizer(bos="<s>"), "plain", save_base),
        "plain without BOS": (make_tokenizer(), "plain", save_base),
        "template": (make_tokenizer(bos="<s>", extra=NAMES["special"], chat_template=LLAMA_LIKE), "chat", save_base),
        "no template": (make_tokenizer(bos="<s>"), "chat", save_base),
        "encoder": (make_tokenizer(encoder=True), "plain", lambda f, t: save_encoder(f, t, "bert")),
        "encoder chat": (make_tokenizer(encoder=True), "chat", lambda f, t: save_encoder(f, t, "bert")),
    }
    return {
        name: make_checkpoint(save(root / name / "base", tokenizer), root / name / "model", kind=kind)
        for name, (tokenizer, kind, save) in made.items()
    }


WAYS = ["plain", "plain without BOS", "template", "no template", "encoder", "encoder chat"]


def test_b1_scores_do_not_depend_on_the_batch(plain):
    """allenai/reward-bench#137: accuracy was 0.5928, 0.5858 or 0.5959 with the batch size."""
    expected = scores(plain)
    for budget in (1, 40, 100_000):
        np.testing.assert_allclose(scores(plain, token_budget=budget), expected, atol=1e-5)
    alone = [
        scores(plain, [prompt], [[text]])[0] for prompt, group in zip(PROMPTS, RESPONSES, strict=True) for text in group
    ]
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    for way in ("separate", "mask"):
        other = load_reward_model(plain.model.config._name_or_path)
        wrapped = RewardModel(other.model.core, sharing=way)
        found = scores(type(plain)(wrapped, plain.tokenizer, plain.form))
        assert wrapped.sharing == way
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(np.round(expected, 4))) == 6


def test_b2_pad_equal_to_eos_does_not_hide_the_response(tmp_path):
    """RLHFlow/RLHF-Reward-Modeling#49: with pad = EOS chosen and rejected got the same score on Llama-3."""
    tokenizer = make_tokenizer(eos="</s>", pad="</s>")
    ours = loaded(save_classifier(tmp_path / "base", tokenizer), tmp_path / "model", kind="plain")
    assert ours.tokenizer.pad_token_id != ours.tokenizer.eos_token_id == 0
    found = scores(ours)
    assert len(set(np.round(found, 4))) == 6
    np.testing.assert_allclose(
        plain_rewards(tmp_path / "model", rendered(ours), special=True, padded=True), found, atol=1e-5
    )


def test_b2_a_foreign_model_with_pad_equal_to_eos_is_read_at_its_eos(tmp_path):
    """The same model as others saved it: transformers reads the token before the EOS, we read the EOS."""
    folder = save_classifier(tmp_path / "rm", make_tokenizer(eos="</s>", pad="</s>"))
    theirs = load_reward_model(folder)
    assert theirs.tokenizer.pad_token_id == theirs.tokenizer.eos_token_id
    found = scores(theirs)
    core = theirs.model.core
    for text, reward in zip(rendered(theirs), found, strict=True):
        ids = theirs.tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, -1] == theirs.tokenizer.eos_token_id
        with torch.no_grad():
            at_each = core.score(core.model(ids)[0])[0, :, 0]
        assert reward == pytest.approx(at_each[-1].item(), abs=1e-5)
        assert abs(reward - at_each[-2].item()) > 1e-3


def test_b3_a_missing_pad_token_is_made(tmp_path):
    """allenai/reward-bench#115: no pad_token_id broke batches of a reward model that TRL had trained."""
    base = save_base(tmp_path / "base", make_tokenizer())
    assert json.loads((base / "config.json").read_text())["pad_token_id"] is None
    folder = make_checkpoint(base, tmp_path / "model", kind="plain")
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == load_tokenizer(folder).pad_token_id
    assert load_tokenizer(folder).pad_token_id is not None
    assert len(plain_rewards(folder, ["a</s>", "a b c</s>"], special=True, padded=True)) == 2


def test_b4_a_causal_model_is_refused(tmp_path):
    """allenai/reward-bench#210: a checkpoint saved as LlamaForCausalLM was scored with a head drawn at random."""
    save_base(tmp_path, make_tokenizer())
    with pytest.raises(CheckpointError, match=r"lacks score\.weight, which would be drawn at random"):
        load_reward_model(tmp_path)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2, target_modules="all-linear")])
def test_b5_the_head_of_a_reward_model_is_kept(tmp_path, lora):
    """modelscope/ms-swift#9239: the head was drawn anew although the base was a reward model."""
    base = save_classifier(tmp_path / "base", make_tokenizer())
    head = AutoModelForSequenceClassification.from_pretrained(base).score.weight
    tokenizer = load_tokenizer(base)
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0), lora=lora)
    assert torch.equal(model.head.weight, head)


def test_b6_merging_an_adapter_keeps_the_head(tmp_path):
    """huggingface/trl#297, #368: a merged adapter lost its score head or was saved as another class."""
    base = save_base(tmp_path / "base", make_tokenizer(bos="<s>"))
    tokenizer = load_tokenizer(base)
    lora = LoraConfig(r=4, target_modules="all-linear")
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0), lora=lora)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1, generator=generator)
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_reward_model(tmp_path / "adapter", model, tokenizer=tokenizer, form=form, provenance={})
    adapted = load_reward_model(tmp_path / "adapter")
    expected = scores(adapted)
    whole = RewardModel(merge(adapted.model.pretrained))
    save_reward_model(tmp_path / "merged", whole, tokenizer=tokenizer, form=form, provenance={})
    merged = load_reward_model(tmp_path / "merged")
    assert type(merged.model.core).__name__ == "LlamaForSequenceClassification"
    np.testing.assert_allclose(scores(merged), expected, atol=1e-5)
    texts = rendered(merged)
    np.testing.assert_allclose(
        plain_rewards(tmp_path / "merged", texts, special=True, padded=True), expected, atol=1e-5
    )


def test_b7_there_is_one_output(tmp_path):
    """huggingface/trl#5066: reward models were made with two outputs and nothing looked."""
    folder = make_checkpoint(save_base(tmp_path / "base", make_tokenizer()), tmp_path / "model")
    assert load_reward_model(folder).model.config.num_labels == 1
    save_classifier(tmp_path / "two", make_tokenizer(pad="<pad>"), num_labels=2)
    with pytest.raises(CheckpointError, match="no head with a single output"):
        load_reward_model(tmp_path / "two")
    with pytest.raises(CheckpointError, match="its head has 2 outputs; a reward model has one"):
        make_checkpoint(tmp_path / "two", tmp_path / "never")


def test_b8_padding_side_and_pad_id_are_stored(tmp_path):
    """huggingface/trl#937: rewards of 300 and an odd loss came from the padding side and pad_token_id None."""
    tokenizer = make_tokenizer()
    tokenizer.padding_side = "left"
    folder = make_checkpoint(save_base(tmp_path / "base", tokenizer), tmp_path / "model", kind="plain")
    saved = load_tokenizer(folder)
    assert saved.padding_side == "right"
    assert saved.pad_token_id not in (None, saved.eos_token_id)


def write_pairs(path, chat):
    prompt = [{"role": "user", "content": PROMPTS[0]}] if chat else PROMPTS[0]
    reply = (lambda text: [{"role": "assistant", "content": text}]) if chat else str
    rows = [{"prompt": prompt, "chosen": reply(f"Paris {i}."), "rejected": reply("Lyon.")} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("way", ["plain", "template", "no template", "encoder"])
def test_b9_the_tokens_scored_are_the_tokens_trained_on(folders, way, tmp_path, monkeypatch):
    """huggingface/trl#5813: the evaluation script left out the EOS that the trainer had appended."""
    seen: list[tuple[int, ...]] = []
    layout = RewardModel.layout

    def spy(self, rows):
        seen.extend(tuple(sequence.tolist()) for row in rows for sequence in row.sequences())
        return layout(self, rows)

    monkeypatch.setattr(RewardModel, "layout", spy)
    chat = way in ("template", "no template")
    data = DataRecipe(train=str(write_pairs(tmp_path / "pairs.jsonl", chat)), max_length=64, cache=tmp_path / "cache")
    base = folders[way].parent / "base"
    recipe = TrainReward(model=str(base), output=tmp_path / "run", data=data, batch_size=4, max_steps=1)
    model = train_reward(recipe).model
    trained = set(seen)
    seen.clear()
    prompt = (Message("user", PROMPTS[0]),) if chat else PROMPTS[0]
    checkpoint = load_reward_model(model)
    scores(checkpoint, [prompt], [[*(f"Paris {i}." for i in range(4)), "Lyon."]])
    assert set(seen) == trained
    ends = {sequence[-1] for sequence in trained}
    turn = checkpoint.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    last = {"template": turn, "encoder": checkpoint.tokenizer.sep_token_id}.get(way, checkpoint.tokenizer.eos_token_id)
    assert ends == {last}


@pytest.mark.parametrize("way", ["plain", "template", "no template", "encoder", "encoder chat"])
def test_b9_bos_is_written_once(folders, way):
    """A template that writes the BOS and a tokenizer that adds one give two."""
    checkpoint = load_reward_model(folders[way])
    tokenizer = checkpoint.tokenizer
    first = tokenizer.cls_token_id if "encoder" in way else tokenizer.bos_token_id
    ids = tokenizer(rendered(checkpoint)[0], add_special_tokens=checkpoint.form.special_tokens)["input_ids"]
    assert ids[0] == first
    assert ids.count(first) == 1


def test_b10_pad_and_eos_inside_the_text_end_nothing(plain):
    """huggingface/trl#6952: the first pad id was taken as the end, so that a reward was read inside the prompt."""
    tokenizer, core = plain.tokenizer, plain.model.core
    prompt = f"One{tokenizer.eos_token}two{tokenizer.pad_token}three "
    found = scores(plain, [prompt], [["yes", f"no{tokenizer.pad_token}"]])
    for text, reward in zip(rendered(plain, [prompt], [["yes", f"no{tokenizer.pad_token}"]]), found, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert reward == pytest.approx(core.score(core.model(ids)[0])[0, -1, 0].item(), abs=1e-5)
    assert found[0] != pytest.approx(found[1], abs=1e-4)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_b12_plain_transformers_gives_our_score(folders, way, padded):
    """hiyouga/LlamaFactory#7403: the server's score was not AutoModelForSequenceClassification's."""
    checkpoint = load_reward_model(folders[way])
    special = checkpoint.form.special_tokens
    found = plain_rewards(folders[way], rendered(checkpoint), special=special, padded=padded)
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("encoder", [True, False])
def test_b12_long_text_is_cut_as_plain_transformers_cuts_it(tmp_path, side, encoder):
    """Maximum length and side are stored where transformers looks, and special tokens survive the cut."""
    tokenizer = make_tokenizer(encoder=True) if encoder else make_tokenizer(bos="<s>", extra=("<|pad|>",))
    save = save_encoder if encoder else save_base
    base = save(tmp_path / "base", tokenizer, "bert" if encoder else "llama")
    folder = make_checkpoint(base, tmp_path / "model", kind="plain", max_length=9, side=side)
    checkpoint = load_reward_model(folder)
    texts = rendered(checkpoint)
    if side == "right" and not encoder:  # transformers cuts an EOS that stands in the text; ours stays
        texts = [checkpoint.tokenizer.decode(checkpoint.tokenizer(t)["input_ids"][1:8]) + "</s>" for t in texts]
    found = plain_rewards(folder, texts, special=True, padded=True)
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_b13_the_pipeline_returns_the_raw_reward(folders, way):
    """vllm-project/vllm#12791 and others: sigmoid(reward) came out where the reward was wanted."""
    checkpoint = load_reward_model(folders[way])
    checkpoint.model.head.weight.data *= 40  # far out, where a sigmoid would be flat
    save_reward_model(
        folders[way].parent / "loud",
        checkpoint.model,
        tokenizer=checkpoint.tokenizer,
        form=checkpoint.form,
        provenance={},
    )
    score = pipeline("text-classification", model=str(folders[way].parent / "loud"), device="cpu")
    special = checkpoint.form.special_tokens
    found = [result["score"] for result in score(rendered(checkpoint), add_special_tokens=special, batch_size=4)]
    np.testing.assert_allclose(found, scores(checkpoint), rtol=1e-4, atol=1e-3)
    assert np.abs(found).max() > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_b14_half_precision_gives_no_nan(folders, dtype):
    """huggingface/trl#3236: rewards were NaN as soon as the model went to fp16."""
    for way in WAYS:
        half = scores(load_reward_model(folders[way], dtype=dtype))
        assert np.isfinite(half).all()
        np.testing.assert_allclose(half, scores(load_reward_model(folders[way])), atol=0.15)


def test_b14_a_nan_stops_scoring_and_names_the_row(folders):
    checkpoint = load_reward_model(folders["plain"])
    embeddings = checkpoint.model.core.get_input_embeddings().weight.data
    only_second = checkpoint.tokenizer(" pears")["input_ids"][-1]
    embeddings[only_second] = float("nan")
    with pytest.raises(NonFiniteError, match=r"reward of nan to a response in row 2 \(1 in all\)"):
        scores(checkpoint)


def test_b15_a_score_of_zero_is_a_score(folders):
    """OpenRLHF#1219: a score of exactly 0.0 was taken for no score."""
    checkpoint = load_reward_model(folders["plain"])
    checkpoint.model.head.weight.data.zero_()
    assert scores(checkpoint).tolist() == [0.0] * 6


def test_b16_cut_responses_are_counted_in_one_warning(folders, caplog):
    """huggingface/trl#5697: nearly every completion was cut and nothing said so."""
    checkpoint = load_reward_model(folders["plain"])
    long = "apples and pears " * 30
    with caplog.at_level(logging.WARNING, logger="trueup"):
        found = scores(checkpoint, PROMPTS, [["Paris.", long, long + "x"], [long], ["Seven."]])
    words = [record.getMessage() for record in caplog.records]
    assert words == ["model: 3 of 5 responses exceed 64 tokens with their prompt and were cut on the left"]
    caplog.clear()
    short = scores(checkpoint, PROMPTS, [["Paris."], ["a"], ["Seven."]])
    np.testing.assert_allclose(found[[0, 4]], short[[0, 2]], atol=1e-5)
    assert not caplog.records


def test_an_adapter_without_its_head_is_refused(tmp_path):
    """A head that is in neither the adapter nor the base would be drawn at random."""
    base = save_base(tmp_path / "base", make_tokenizer())
    tokenizer = load_tokenizer(base)
    lora = LoraConfig(r=2, target_modules=["q_proj"])
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0), lora=lora)
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_reward_model(tmp_path, model, tokenizer=tokenizer, form=form, provenance={})
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "score" not in name}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"lacks score\.weight"):
        load_reward_model(tmp_path)


def test_a_head_of_another_shape_is_refused(tmp_path):
    """A bias beside `score.weight` means another class; transformers would leave it out and say so in passing."""
    folder = make_checkpoint(save_base(tmp_path / "base", make_tokenizer()), tmp_path / "model")
    weights = load_file(folder / "model.safetensors") | {"score.bias": torch.ones(1)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"head has score\.bias"):
        load_reward_model(folder)


def test_chatml_turn_end_is_never_the_pad_token(tmp_path):
    """Users set pad to the token that ends a turn; transformers would then read the token before it."""
    tokenizer = make_tokenizer(
        eos="<|endoftext|>", pad="<|im_end|>", extra=("<|im_start|>", "<|im_end|>"), chat_template=CHATML
    )
    checkpoint = loaded(save_base(tmp_path / "base", tokenizer), tmp_path / "model", kind="chat")
    assert checkpoint.tokenizer.pad_token not in ("<|im_end|>", "<|endoftext|>")
    found = plain_rewards(tmp_path / "model", rendered(checkpoint), special=False, padded=True)
    np.testing.assert_allclose(found, scores(checkpoint), atol=1e-5)
