"""Several heads on one trunk: what each says, and what is left of them on disk."""

import json

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification

from tiny_models import loaded, make_tokenizer, save_base, save_classifier, save_encoder
from tiny_training import random_rows, tiny_reward_model
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError, RecipeError
from trueup.models.checkpoints import load_reward_model, new_reward_model, save_reward_model
from trueup.models.heads.ensemble import merge_heads, with_heads
from trueup.models.tokenizers import load_tokenizer

ROWS = random_rows(3)
LORA = LoraConfig(r=4, target_modules="all-linear")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def heads_on(base, *, lora=None, members=3):
    tokenizer = load_tokenizer(base)
    model = new_reward_model(base, tokenizer=tokenizer, generator=generator(), lora=lora)
    return with_heads(model, members, generator=generator(1)), tokenizer


def write(folder, model, tokenizer, provenance=None):
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_reward_model(folder, model, tokenizer=tokenizer, form=form, provenance=provenance or {})
    return folder


def make_base(folder, family):
    if family in ("bert", "roberta"):
        return save_encoder(folder, make_tokenizer(encoder=True), family)
    return save_base(folder, make_tokenizer(), family)


def test_heads_are_drawn_independently_as_single_ones_are():
    model = with_heads(tiny_reward_model(hidden_size=512, num_attention_heads=4), 8, generator=generator())
    weight = model.head.weight.detach()
    assert weight.shape == (8, 512)
    assert weight.std() == pytest.approx(513**-0.5, rel=0.05)
    assert weight.norm(dim=1) == pytest.approx([1.0] * 8, rel=0.15)
    correlation = torch.corrcoef(weight) - torch.eye(8)
    assert correlation.abs().max() < 4 * 512**-0.5
    assert model.head.bias is None


@pytest.mark.parametrize("sharing", ["trees", "mask", "separate"])
def test_each_member_is_what_its_head_alone_would_be(sharing):
    model = with_heads(tiny_reward_model(sharing), 3, generator=generator())
    out = model(model.layout(ROWS), before_norm=True)
    assert out.members.shape == (3, len(out.reward))
    assert torch.allclose(out.reward, out.members.mean(0), atol=1e-12)
    assert out.before_norm is not None
    for weight, member in zip(model.head.weight.detach().clone(), out.members, strict=True):
        single = tiny_reward_model(sharing)
        single.head.weight.data = weight[None].clone()
        assert torch.allclose(single(single.layout(ROWS)).reward, member, atol=1e-12)
        assert single(single.layout(ROWS)).members is None


@pytest.mark.parametrize(
    ("family", "lora"), [("llama", None), ("llama", LORA), ("gpt2", None), ("bert", None), ("roberta", LORA)]
)
def test_a_checkpoint_is_a_classifier_with_a_label_for_each(tmp_path, family, lora):
    base = make_base(tmp_path / "base", family)
    model, tokenizer = heads_on(base, lora=lora)
    before = model.eval()(model.layout(ROWS)).members
    folder = write(tmp_path / "model", model, tokenizer, {"ensemble": {"aggregate": {"name": "wco"}}})
    assert json.loads((folder / "trueup.json").read_text())["ensemble"] == {"aggregate": {"name": "wco"}, "size": 3}
    checkpoint = load_reward_model(folder)
    assert checkpoint.model.members == 3
    assert torch.allclose(checkpoint.model(checkpoint.model.layout(ROWS)).members, before, atol=1e-5)
    if lora is None:
        plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        assert plain.config.num_labels == 3
        assert plain.config.problem_type == "regression"
        sequences = [torch.from_numpy(sequence)[None].long() for row in ROWS for sequence in row.sequences()]
        with torch.no_grad():
            logits = torch.cat([plain(ids, attention_mask=torch.ones_like(ids)).logits for ids in sequences])
        assert torch.allclose(logits.T, before, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA])
def test_merged_heads_are_an_ordinary_reward_model_with_their_mean(tmp_path, lora):
    model, tokenizer = heads_on(save_base(tmp_path / "base", make_tokenizer()), lora=lora)
    mean = model.eval()(model.layout(ROWS)).reward
    merged = merge_heads(model)
    assert merged.members == 1
    folder = write(tmp_path / "model", merged, tokenizer)
    assert "ensemble" not in json.loads((folder / "trueup.json").read_text())
    one = load_reward_model(folder).model
    out = one(one.layout(ROWS))
    assert torch.allclose(out.reward, mean, atol=1e-5)
    assert out.members is None
    assert one.core.config.num_labels == 1
    with pytest.raises(RecipeError, match="one head already"):
        merge_heads(one)


def test_an_adapter_s_base_may_have_a_head_of_its_own(tmp_path):
    base = save_classifier(tmp_path / "base", make_tokenizer(pad="<pad>"))
    model, tokenizer = heads_on(base, lora=LORA)
    before = model.eval()(model.layout(ROWS)).members
    again = load_reward_model(write(tmp_path / "model", model, tokenizer)).model
    assert torch.allclose(again(again.layout(ROWS)).members, before, atol=1e-5)


def test_heads_take_the_place_of_one_head_only():
    model = tiny_reward_model()
    with pytest.raises(RecipeError, match="1 heads cannot take the place of 1"):
        with_heads(model, 1, generator=generator())
    with pytest.raises(RecipeError, match="4 heads cannot take the place of 3"):
        with_heads(with_heads(model, 3, generator=generator()), 4, generator=generator())


def test_a_side_file_that_states_another_number_of_heads(tmp_path):
    model, tokenizer = heads_on(save_base(tmp_path / "base", make_tokenizer()))
    folder = write(tmp_path / "model", model, tokenizer)
    side = json.loads((folder / "trueup.json").read_text())
    for size, words in ((2, "no head with 2 outputs"), (None, "not as we write it"), ("x", "not as we write it")):
        (folder / "trueup.json").write_text(json.dumps(side | {"ensemble": {"size": size}}))
        with pytest.raises(CheckpointError, match=words):
            load_reward_model(folder)
    side.pop("ensemble")
    (folder / "trueup.json").write_text(json.dumps(side))
    with pytest.raises(CheckpointError, match="no head with a single output"):
        load_reward_model(folder)


def test_one_head_s_side_file_says_nothing_of_ensembles(tmp_path):
    checkpoint = loaded(save_base(tmp_path / "base", make_tokenizer()), tmp_path / "model", kind="plain")
    assert "ensemble" not in checkpoint.provenance
