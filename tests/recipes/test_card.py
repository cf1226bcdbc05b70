"""The card of a saved model: its facts, and its code, run for real."""

import json
import re

import pytest
import torch
from peft import LoraConfig

from tiny_models import LLAMA_LIKE, make_checkpoint, make_tokenizer, save_base, save_encoder
from trueup.data.rows import Message
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError
from trueup.models.checkpoints import new_reward_model, save_reward_model
from trueup.models.heads.ensemble import with_heads
from trueup.recipes.card import card_of
from trueup.report.card import render_card, write_card
from trueup.rewards.load import load_reward

RECIPE = {
    "model": "owner/base",
    "objective": {"name": "bradley_terry", "label_smoothing": 0.0},
    "regularizer": {"name": "bsr", "coefficient": 0.001, "reduction": "official", "group_size": None},
}
PROVENANCE = {
    "recipe": RECIPE,
    "applied_coefficient": {"BatchSumToZero": 0.128},
    "data": {"train": "pairs.jsonl", "rows": 12, "fingerprint": "00ff"},
    "versions": {"torch": "2.13.0"},
    "seed": 7,
}


def make(way, root):
    tokenizer = {
        "template": make_tokenizer(bos="<s>", extra=("<|role|>", "<|eot_id|>"), chat_template=LLAMA_LIKE),
        "encoder": make_tokenizer(encoder=True),
    }.get(way, make_tokenizer(bos="<s>"))
    base = save_encoder(root / "base", tokenizer, "bert") if way == "encoder" else save_base(root / "base", tokenizer)
    lora = LoraConfig(r=2, target_modules=["q_proj"]) if way == "adapter" else None
    kind = "chat" if way in ("template", "no template") else "plain"
    return make_checkpoint(base, root / "run" / "model", kind=kind, max_length=40, lora=lora)


@pytest.mark.parametrize("way", ["plain", "template", "no template", "encoder"])
def test_the_code_of_the_card_gives_our_score(tmp_path, way):
    folder = make(way, tmp_path)
    card = write_card(card_of(folder), folder).read_text()
    code = re.search(r"```python\n(.*?)```", card, re.S)[1].replace("path/to/this/model", str(folder))
    names = {}
    exec(code, names)
    prompt = names.get("prompt") or (Message("user", names["messages"][0]["content"]),)
    ours = load_reward(str(folder)).score([prompt], [["Paris."]]).reward[0]
    assert names["reward"] == pytest.approx(ours, abs=1e-5)
    assert load_reward(str(folder)).name == "model"


def test_the_code_of_an_ensemble_s_card_gives_its_mean(tmp_path):
    tokenizer = make_tokenizer(bos="<s>")
    base = save_base(tmp_path / "base", tokenizer)
    one = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0))
    model = with_heads(one, 3, generator=torch.Generator().manual_seed(1))
    form = infer_format((), tokenizer, max_length=40, kind="plain")
    save_reward_model(tmp_path / "model", model, tokenizer=tokenizer, form=form, provenance={})
    text = write_card(card_of(tmp_path / "model"), tmp_path / "model").read_text()
    assert "an ensemble of 3 heads" in text
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1].replace("path/to/this/model", str(tmp_path / "model")), names)
    ours = load_reward(str(tmp_path / "model")).score([names["prompt"]], [["Paris."]])
    assert names["reward"] == pytest.approx(ours.reward[0], abs=1e-5)
    assert len(ours.members) == 3


def test_the_facts_are_those_of_the_side_file(tmp_path):
    folder = make("plain", tmp_path)
    side = json.loads((folder / "trueup.json").read_text())
    (folder / "trueup.json").write_text(json.dumps(side | PROVENANCE))
    facts = card_of(folder, metrics={"accuracy": 0.75})
    assert (facts.name, facts.base_model, facts.objective) == ("run", "owner/base", "bradley terry with bsr")
    assert (facts.data, facts.rows, facts.data_fingerprint, facts.seed) == ("pairs.jsonl", 12, "00ff", 7)
    assert facts.coefficients == {
        "bradley terry label_smoothing": 0.0,
        "bsr coefficient": 0.001,
        "bsr reduction": "official",
        "BatchSumToZero on the squared mean reward of a full step": 0.128,
    }
    card = render_card(facts)
    for words in ("Longest sequence in tokens: 40", "EOS: `appended", "Pad token: `<|pad|>`", "| accuracy | 0.75 |"):
        assert words in card
    assert "coefficient: 0.001" in card


def test_an_adapter_is_called_one(tmp_path):
    folder = make("adapter", tmp_path)
    assert any("adapter" in caveat for caveat in card_of(folder).caveats)
    assert not any("adapter" in caveat for caveat in card_of(make("plain", tmp_path / "whole")).caveats)


def test_a_folder_that_we_did_not_write(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no readable trueup\.json"):
        card_of(tmp_path)
