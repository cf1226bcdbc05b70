"""Two rewards in conflict: learned policies against the optimum that is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trueup.lab.games.descent import Descent
from trueup.lab.games.matrix import kl
from trueup.lab.games.pairs import expected_pairs
from trueup.lab.games.play import bradley_terry
from trueup.lab.games.responders import now, whole
from trueup.lab.games.two_rewards import (
    TwoRewardsPlan,
    at_distance,
    earned,
    implied,
    optimum,
    soup_of,
    train_dpo,
    train_mixture,
    train_modpo,
    two_rewards,
)

PLAN = TwoRewardsPlan(responses=4, pairs=500)
HOW = Descent(steps=250, learning_rate=0.2)


@pytest.fixture(scope="module")
def exact():
    """Worlds whose pairs have their exact frequencies."""
    worlds = two_rewards(PLAN, [0, 1])
    chances = worlds.reference.exp().numpy()
    return replace(worlds, pairs=np.stack([expected_pairs(chances, bradley_terry(one)) for one in worlds.rewards]))


def test_rewards_conflict_and_pairs_are_labelled_by_each():
    worlds = two_rewards(TwoRewardsPlan(responses=400, pairs=100), [0])
    first, second = worlds.rewards[:, 0].numpy()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(-0.6, abs=0.1)
    assert first.std() == pytest.approx(2.0, abs=0.2)
    many = two_rewards(TwoRewardsPlan(responses=3, pairs=100_000), [5])
    for which in (0, 1):
        chances = many.reference.exp().numpy()[0]
        expected = expected_pairs(chances, bradley_terry(many.rewards[which])[0])
        assert many.pairs[which, 0] / 100_000 == pytest.approx(expected, abs=6e-3)


@pytest.mark.parametrize("which", [0, 1])
def test_modpo_finds_the_optimum_from_either_reward_s_pairs(exact, which):
    margin = exact.rewards[1 - which]
    policy = whole(now(train_modpo(exact, 0.3, margin=margin, how=HOW, which=which)))
    assert torch.allclose(policy.exp(), optimum(exact, 0.3).exp(), atol=1e-3)


def test_dpo_implies_its_reward_and_soups_of_tables_are_optimal(exact):
    alone = [train_dpo(exact, which, how=HOW) for which in (0, 1)]
    for which in (0, 1):
        reward, told = exact.rewards[which], implied(exact, alone[which])
        assert torch.allclose(told - told[:, :1], reward - reward[:, :1], atol=2e-2)
    assert torch.allclose(whole(now(soup_of(exact, alone, 0.4))).exp(), optimum(exact, 0.4).exp(), atol=1e-2)


def test_a_mixture_of_losses_is_something_else(exact):
    """Its ends are DPO's; between them it learns the mean of the labels, not of the rewards."""
    mixed = whole(now(train_mixture(exact, 0.5, how=HOW)))
    assert (mixed.exp() - optimum(exact, 0.5).exp()).abs().max() > 0.02
    both = replace(exact, pairs=np.stack([0.5 * exact.pairs.sum(axis=0)] * 2))
    assert torch.allclose(mixed, whole(now(train_dpo(both, 0, how=HOW))), atol=1e-3)
    end = whole(now(train_mixture(exact, 1.0, how=HOW)))
    assert torch.allclose(end, whole(now(train_dpo(exact, 0, how=HOW))), atol=1e-6)


def test_a_policy_at_a_distance_is_that_of_another_beta(exact):
    """The closed form with beta 2 has half the log-ratio."""
    policy = optimum(exact, 0.5)
    half = (0.5 * (exact.reference + policy)).log_softmax(1)
    for place in (0, 1):
        nats = kl(half, exact.reference)[place].item()
        assert torch.allclose(at_distance(exact, policy, nats)[place], half[place], atol=1e-6)
    assert kl(at_distance(exact, policy, 0.2), exact.reference).tolist() == pytest.approx([0.2, 0.2])


def test_means_of_rewards(exact):
    found = earned(exact, exact.reference)
    chances = exact.reference.exp()
    assert found[1].tolist() == pytest.approx([(exact.rewards[which, 1] * chances[1]).sum().item() for which in (0, 1)])
