"""Bandits with given data: what methods end at, where it is known."""

import copy

import numpy as np
import pytest
import torch

from trueup.lab.games.bandit import (
    BanditPlan,
    Method,
    bandits,
    learn_method,
    learn_reference,
    mean_reward,
)
from trueup.lab.games.descent import Descent
from trueup.lab.games.responders import now, whole
from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.advantage.a_lol_seq import ALolSeq
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.advantage.wbc import WBC

PLAN = BanditPlan(contexts=3, first=2, second=2, samples=600, batch=256,
                  descent=Descent(steps=250, learning_rate=0.05))  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    data = bandits(PLAN, [0, 1], noise=0.5)
    return data, *learn_reference(PLAN, data)


def frequencies(data, worth=None):
    """Share of each response in its context, weighted."""
    weight = np.ones_like(data.earned) if worth is None else worth
    total = np.stack([np.bincount(drawn, weights=each, minlength=12) for drawn, each in
                      zip(data.drawn, weight, strict=True)])  # fmt: skip
    total = total.reshape(2, 3, 4)
    return total / total.sum(axis=2, keepdims=True)


def chances(policy):
    return whole(now(policy)).exp().reshape(2, 3, 4).numpy()


def test_the_reference_is_the_data_s_frequencies(learned):
    data, reference, known = learned
    assert chances(reference) == pytest.approx(frequencies(data), abs=0.03)
    value = (chances(reference) * data.reward.numpy()).sum(axis=2)
    context = data.drawn[0] // 4
    assert known.advantage[0] == pytest.approx(data.earned[0] - value[0][context])
    assert mean_reward(data, reference) == pytest.approx(value.mean(axis=1))


@pytest.mark.parametrize(
    ("method", "power"),
    [
        (Method(term=WBC()), "reward"),
        (Method(term=ALolRefFree(), filtered=True), "advantage"),
        (Method(term=ALolRefFree()), "advantage"),
        (Method(term=ALolRefFree(), priority="advantage", filtered=True), "advantage squared"),
    ],
    ids=["weighted cloning", "advantage", "advantage, no filter", "with priorities"],
)
def test_methods_without_a_ratio_end_where_the_paper_says(learned, method, power):
    """pi proportional to pi_data R, pi_data A+, and with priorities to pi_data A+^2."""
    data, reference, known = learned
    policy = learn_method(PLAN, data, method, known=known, policy=copy.deepcopy(reference))
    positive = np.maximum(known.advantage, 0)
    worth = {"reward": known.reward, "advantage": positive, "advantage squared": positive**2}[power]
    assert chances(policy) == pytest.approx(frequencies(data, worth), abs=0.05)


def test_advantages_earn_more_than_rewards_and_those_more_than_likelihood(learned):
    data, reference, known = learned
    found = [
        mean_reward(data, learn_method(PLAN, data, method, known=known, policy=copy.deepcopy(reference))).mean()
        for method in (Method(term=WBC()), Method(term=RLol(), priority="reward"),
                       Method(term=ALol(), priority="advantage", filtered=True))
    ]  # fmt: skip
    assert mean_reward(data, reference).mean() < found[0] < found[1] < found[2]


def test_a_ratio_for_each_token_is_not_the_ratio_of_the_whole(learned):
    data, reference, known = learned
    both = [
        chances(learn_method(PLAN, data, Method(term=term, filtered=True), known=known,
                             policy=copy.deepcopy(reference)))
        for term in (ALol(), ALolSeq())
    ]  # fmt: skip
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_noise_makes_data_worse_and_leaves_rewards_alone():
    clean, noisy = (bandits(BanditPlan(), [3], noise=noise) for noise in (0.0, 0.9))
    assert torch.equal(clean.reward, noisy.reward)
    assert clean.earned.mean() == pytest.approx(0.76, abs=0.03)
    assert noisy.earned.mean() == pytest.approx(0.53, abs=0.03)
