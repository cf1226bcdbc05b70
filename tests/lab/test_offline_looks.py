"""Looks at finished policies: mixtures of weights, and what was seen before."""

from functools import partial

import numpy as np
import pytest
import torch

from trueup.lab import offline_looks
from trueup.lab.offline_looks import Looking, look_once, mixture
from trueup.models.policy_checkpoints import load_policy_checkpoint, save_policy
from trueup.rewards.function import FunctionReward

HOW = Looking(samples=2, max_new_tokens=6)


def length(prompts, completions):
    return [float(len(text)) for text in completions]


@pytest.fixture(scope="module")
def moved_policy(world_zero, tmp_path_factory):
    """The start with noise on its weights."""
    made = load_policy_checkpoint(world_zero.policy, dtype=torch.float32)
    folder = tmp_path_factory.mktemp("moved") / "policy"
    with torch.no_grad():
        for place, parameter in enumerate(made.model.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place)))
    save_policy(folder, made.model, tokenizer=made.tokenizer, form=made.form, provenance={})
    return folder


def test_weights_are_averaged(world_zero, moved_policy):
    start, end = (
        load_policy_checkpoint(one, dtype=torch.float32).model.state_dict() for one in (world_zero.policy, moved_policy)
    )
    mixed = mixture({moved_policy: 0.25, world_zero.policy: 0.75}).model.state_dict()
    for name, value in mixed.items():
        assert torch.allclose(value, 0.25 * end[name] + 0.75 * start[name], atol=1e-6)
    alone = mixture({moved_policy: 1.0, world_zero.policy: 0.0}).model.state_dict()
    assert all(torch.equal(value, end[name]) for name, value in alone.items())


def test_a_look_says_how_far_a_policy_went_and_is_kept(world_zero, moved_policy, tmp_path, monkeypatch):
    look = partial(look_once, world_zero, second=FunctionReward(length, "length"), how=HOW, folder=tmp_path)
    seen = look({moved_policy: 1.0})
    prompts = len(world_zero.pool.prompts)
    assert seen.gold.shape == (1, prompts, 2)
    assert seen.proxy[0].ravel().tolist() == [float(len(text)) for group in seen.texts[0] for text in group]
    assert seen.kl.mean() > 0.1
    start = look({world_zero.policy: 1.0})
    assert np.allclose(start.kl, 0, atol=1e-4)
    assert np.allclose(look({moved_policy: 1.0}, start=moved_policy).kl, 0, atol=1e-4)

    def never(*args, **options):
        raise AssertionError("this draws")

    monkeypatch.setattr(offline_looks, "Looker", never)
    assert np.array_equal(look({moved_policy: 1.0}).kl, seen.kl)
    # A share of 0 is no other policy.
    assert np.array_equal(look({moved_policy: 1.0, world_zero.policy: 0.0}).kl, seen.kl)
    with pytest.raises(AssertionError, match="this draws"):
        look({moved_policy: 0.5, world_zero.policy: 0.5})
