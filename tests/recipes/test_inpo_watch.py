"""What a round has gained: against the same policy, another one, and a second way of computing it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from small_inpo import ASKED, forget, small_recipe
from trueup.errors import DataError
from trueup.models.policy_checkpoints import load_policy_checkpoint, save_policy
from trueup.policies.model import load_model_policy
from trueup.recipes import inpo_watch as module
from trueup.recipes.inpo_settings import InpoWatch
from trueup.recipes.inpo_watch import watch_round
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference

PROMPTS = ("question 1:", "question 2:", "question 3:", "question 4:")


@pytest.fixture(scope="module")
def moved(base, tmp_path_factory):
    """The start with its weights changed a little."""
    known = load_policy_checkpoint(base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in known.model.parameters():
            weight.add_(0.03 * torch.randn(weight.shape, generator=generator))
    folder = tmp_path_factory.mktemp("moved") / "model"
    save_policy(folder, known.model, tokenizer=known.tokenizer, form=known.form, provenance={})
    assert AutoModelForCausalLM.from_pretrained(folder) is not None
    return folder


def watching(base, tmp_path, **changes):
    forget()
    return small_recipe(base, tmp_path, watch=InpoWatch(prompts="unread", samples=3, resamples=50), **changes)


def test_kl_and_win_rates_are_those_of_another_computation(base, moved, tmp_path):
    recipe = watching(base, tmp_path)
    found = watch_round(recipe, 1, places=[str(base), str(moved)], prompts=PROMPTS)
    assert found["previous"] == found["start"]
    ours, theirs = (json.loads((recipe.output / "watch" / f"policy-{n}.json").read_text())["texts"] for n in (1, 0))
    policy = load_model_policy(str(moved), max_new_tokens=recipe.max_new_tokens)
    start = ModelReference(load_policy_checkpoint(base).model, token_budget=4096)
    seed = module.content_hash("inpo watch", recipe.seed, 1) % 2**32
    samples = PolicySampler(policy=policy, start=start).sample(PROMPTS, 3, seed=seed)
    assert [[one.text for one in group] for group in samples] == ours
    ratios = [one.logprob - one.start_logprob for group in samples for one in group]
    assert found["start"]["kl"]["value"] == pytest.approx(np.mean(ratios), abs=1e-4)
    assert abs(found["start"]["kl"]["value"]) > 1e-3
    answers = []
    for prompt, one, other in zip(PROMPTS, ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            p, q = (module.open_oracle(recipe).prefer([prompt], [x], [y])[0] for x, y in ((a, b), (b, a)))
            answers.append((p + 1 - q) / 2)
    assert found["start"]["win_rate"]["value"] == pytest.approx(np.mean(answers))
    assert found["start"]["kl"]["n"] == 4


def test_a_policy_is_as_far_from_itself_as_nothing(base, tmp_path):
    """Its draws are others in each round, so that it wins about as often as it loses."""
    recipe = watching(base, tmp_path)
    found = watch_round(recipe, 2, places=[str(base)] * 3, prompts=PROMPTS)
    texts = [json.loads((recipe.output / "watch" / f"policy-{n}.json").read_text())["texts"] for n in range(3)]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    for against in ("previous", "start"):
        assert found[against]["kl"]["value"] == pytest.approx(0.0, abs=1e-6)
        assert 0.2 < found[against]["win_rate"]["value"] < 0.8
    assert found["previous"]["win_rate"] != found["start"]["win_rate"]


def test_a_look_is_taken_once_and_its_answers_are_kept(base, moved, tmp_path, monkeypatch):
    recipe = watching(base, tmp_path)
    places = [str(base), str(moved)]
    found = watch_round(recipe, 1, places=places, prompts=PROMPTS[:2])
    asked = len(ASKED)
    monkeypatch.setattr(module, "load_model_policy", None)
    assert watch_round(replace(recipe, resume=True), 1, places=places, prompts=PROMPTS[:2]) == found
    assert len(ASKED) == asked > 0
    (recipe.output / "watch" / "policy-1.json").write_text('{"texts": 1')
    with pytest.raises(DataError, match=r"policy-1.json.*remove it"):
        watch_round(recipe, 1, places=places, prompts=PROMPTS[:2])
