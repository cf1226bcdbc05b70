"""Implicit rewards of policies against plain transformers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import make_tokenizer, save_base
from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, DataError, NonFiniteError, RecipeError
from trueup.models.policy_checkpoints import new_policy, save_policy
from trueup.models.tokenizers import load_tokenizer
from trueup.rewards.implicit import ImplicitPolicyReward, load_implicit
from trueup.rewards.load import load_reward

PROMPTS = ["Name three fruits.", "How?"]
RESPONSES = [[" Apples and pears", " plums", " pears"], [" Boil it", " Water"]]
FORM = TextFormat(kind="plain", special_tokens=True, append_eos=True, max_length=64, truncation_side="left")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(bos="<s>", pad="<pad>"))


def saved(base: Path, folder: Path, *, moved: float, lora: bool = False, form: TextFormat = FORM, **recipe) -> Path:
    """A run whose policy is the base, moved a little."""
    tokenizer = load_tokenizer(base)
    adapter = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear") if lora else None
    model = new_policy(base, tokenizer=tokenizer, lora=adapter)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += moved * torch.randn(parameter.shape, generator=generator)
    stated = {"model": str(base), "method": {"name": "dpo", "beta": 0.2}, "reference": None} | recipe
    save_policy(folder / "model", model, tokenizer=tokenizer, form=form, provenance={"recipe": stated})
    return folder


def plain(folder: Path, prompt: str, response: str, *, limit: int | None = None) -> float:
    """Log-probability of a response and its end."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer(prompt)["input_ids"]
    ids = [*asked, *tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(ids[len(asked) :])[:, None]).sum())


def test_it_is_beta_times_the_log_ratio(base, tmp_path):
    run = saved(base, tmp_path / "run", moved=0.1)
    wanted = [
        0.2 * (plain(run / "model", prompt, text) - plain(base, prompt, text))
        for prompt, group in zip(PROMPTS, RESPONSES, strict=True)
        for text in group
    ]
    for place in (run, run / "model"):
        scores = load_reward(f"implicit:{place}").score(PROMPTS, RESPONSES)
        np.testing.assert_allclose(scores.reward, wanted, rtol=1e-4, atol=1e-5)
        assert scores.prompt.tolist() == [0, 0, 0, 1, 1]
    assert np.abs(wanted).max() > 0.1
    named = load_reward(f"harmless=implicit:{run}?beta=0.4")
    assert named.name == "harmless"
    np.testing.assert_allclose(named.score(PROMPTS, RESPONSES).reward, 2 * np.array(wanted), rtol=1e-4, atol=1e-5)
    assert load_reward(f"implicit:{run}?beta=0.4&reference={base}").name == "run"


@pytest.mark.parametrize("lora", [False, True])
def test_the_reference_itself_has_a_reward_of_exactly_zero(base, tmp_path, lora):
    run = saved(base, tmp_path / "run", moved=0.0, lora=lora)
    reward = load_implicit(f"implicit:{run}")
    assert (reward.reference is None) == lora
    assert (reward.score(PROMPTS, RESPONSES).reward == 0).all()


def test_an_adapter_is_held_against_its_base(base, tmp_path):
    run = saved(base, tmp_path / "run", moved=0.1, lora=True)
    off = load_implicit(f"implicit:{run}").score(PROMPTS, RESPONSES).reward
    apart = load_implicit(f"implicit:{run}?reference={base}").score(PROMPTS, RESPONSES).reward
    np.testing.assert_allclose(off, apart, rtol=1e-4, atol=1e-6)
    assert np.abs(off).max() > 0.01


def test_a_response_s_reward_depends_on_nothing_else(base, tmp_path):
    run = saved(base, tmp_path / "run", moved=0.1)
    reward = replace(load_implicit(f"implicit:{run}"), token_budget=8)
    together = load_implicit(f"implicit:{run}").score(PROMPTS, RESPONSES).reward
    alone = [reward.score([p], [[t]]).reward[0] for p, group in zip(PROMPTS, RESPONSES, strict=True) for t in group]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_what_is_too_long_is_cut_and_said(base, tmp_path, caplog):
    run = saved(base, tmp_path / "run", moved=0.1, form=replace(FORM, max_length=12))
    found = load_implicit(f"implicit:{run}").score(["How? " * 20], [[" plums", " pears"]])
    assert np.isfinite(found.reward).all()
    assert "2 of 2 responses exceed 12 tokens with their prompt and were cut" in caplog.text


def test_what_cannot_be_used_is_refused(base, tmp_path):
    run = saved(base, tmp_path / "run", moved=0.0)
    other = saved(base, tmp_path / "ipo", moved=0.0, method={"name": "ipo", "beta": 0.1})
    with pytest.raises(RecipeError, match=r"was trained by ipo.*add beta=NUMBER"):
        load_implicit(f"implicit:{other}")
    assert load_implicit(f"implicit:{other}?beta=0.5").beta == 0.5
    with pytest.raises(RecipeError, match="does not say how it was trained"):
        load_implicit(f"implicit:{base}")
    with pytest.raises(RecipeError, match="what the policy was held against is not known"):
        load_implicit(f"implicit:{base}?beta=1")
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_implicit(f"implicit:{tmp_path / 'nowhere'}")
    for query, words in (("beta=0", "must be positive"), ("beta=x", "field `beta`"), ("bta=1", "did you mean `beta`")):
        with pytest.raises(RecipeError, match=words):
            load_implicit(f"implicit:{run}?{query}")
    for query, words in (("beta=1&beta=2", "given twice"), ("beta", "without a value")):
        with pytest.raises(RecipeError, match=words):
            load_implicit(f"implicit:{run}?{query}")
    strange = make_tokenizer(bos="<s>", pad="<pad>")
    strange.add_tokens(["another"])
    with pytest.raises(CheckpointError, match="another vocabulary"):
        load_implicit(f"implicit:{run}?reference={save_base(tmp_path / 'strange', strange)}")
    reward = load_implicit(f"implicit:{run}")
    with pytest.raises(DataError, match="no responses"):
        reward.score(["a", "b"], [["c"], []])
    with torch.no_grad():
        next(reward.policy.model.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError):
        reward.score(["a"], [["c"]])
    with pytest.raises(ValueError, match="needs a reference"):
        ImplicitPolicyReward(policy=reward.policy, reference=None, beta=1.0, name="x")
