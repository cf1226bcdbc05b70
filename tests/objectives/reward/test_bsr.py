import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.objectives.example import pairs, two_pairs
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.objectives.reward.centering import Centering


def term(bsr, batch):
    return bsr(batch, bsr.statistics(batch)).values.mean()


def test_worked_value():
    """Rewards 1, 3 and 0, 2: m = 1.5, so lambda b m^2 = 1e-3 * 2 * 2.25."""
    assert term(BatchSumToZero(coefficient=1e-3), two_pairs()).item() == pytest.approx(0.0045)


@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_gradient_of_each_reward_is_lambda_m_whatever_the_batch(count):
    batch = pairs([2.0] * count, [1.0] * count)
    term(BatchSumToZero(coefficient=1e-3), batch).backward()
    assert torch.allclose(batch.reward.grad, torch.full((2 * count,), 1e-3 * 1.5, dtype=torch.float64))


@pytest.mark.parametrize(("reduction", "expected"), [("official", 2 * 2.25), ("mean", 2.25), ("sum", 36.0)])
def test_reductions(reduction, expected):
    bsr = BatchSumToZero(coefficient=0.1, reduction=reduction)
    assert term(bsr, two_pairs()).item() == pytest.approx(0.1 * expected)
    assert bsr.applied(2) * 2.25 == pytest.approx(0.1 * expected)


def test_zero_mean_gives_zero_value_and_gradient():
    batch = pairs([1.0, -2.0, 0.5], [-1.0, 2.0, -0.5])
    value = term(BatchSumToZero(coefficient=10.0), batch)
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(batch.reward.grad, torch.zeros(6, dtype=torch.float64))


def test_adding_a_constant_gives_the_shifted_mean():
    base, c, bsr = [1.0, 3.0], 0.7, BatchSumToZero(coefficient=1e-2)
    shifted = term(bsr, pairs([r + c for r in base], [r - 1 + c for r in base]))
    assert shifted.item() == pytest.approx(1e-2 * 2 * (1.5 + c) ** 2)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=6))
def test_groups_of_one_pair_are_centring_of_a_quarter(rewards):
    chosen, rejected = zip(*rewards, strict=True)
    left, right = pairs(chosen, rejected), pairs(chosen, rejected)
    ours = term(BatchSumToZero(coefficient=0.4, group_size=1), left)
    centring = Centering(coefficient=0.1)(right, {}).values.mean()
    (ours + 0 * left.reward.sum()).backward()
    centring.backward()
    assert torch.allclose(ours, centring)
    assert torch.allclose(left.reward.grad, right.reward.grad)


def test_groups_are_the_mean_of_separate_batches():
    """Eight pairs in groups of four equal what two devices of four pairs each would average to."""
    rewards = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = pairs(rewards[:, 0].tolist(), rewards[:, 1].tolist())
    halves = [pairs(part[:, 0].tolist(), part[:, 1].tolist()) for part in rewards.split(4)]
    bsr = BatchSumToZero(coefficient=0.3)
    expected = sum(term(bsr, half) for half in halves) / 2
    grouped = term(BatchSumToZero(coefficient=0.3, group_size=4), whole)
    assert torch.allclose(grouped, expected)
    assert not torch.allclose(grouped, term(bsr, whole))


def test_expectation_over_random_batches():
    """E[b m^2] = Var(s) + b E[s]^2 for pair midpoints s drawn with replacement."""
    generator = np.random.default_rng(0)
    midpoints = generator.normal(0.3, 1.2, 50)
    b, draws = 4, 40_000
    sample = midpoints[generator.integers(0, 50, (draws, b))]
    bsr = BatchSumToZero(coefficient=1.0)
    values = [term(bsr, pairs(row + 0.5, row - 0.5)).item() for row in sample[:400]]
    assert np.allclose(values, b * sample[:400].mean(1) ** 2)
    estimate = b * sample.mean(1) ** 2
    expected = midpoints.var() + b * midpoints.mean() ** 2
    assert abs(estimate.mean() - expected) < 4 * estimate.std() / draws**0.5


@pytest.mark.parametrize(("reduction", "group"), list(itertools.product(["official", "mean", "sum"], [None, 3])))
def test_any_cut_of_the_step_gives_the_same_value_and_gradient(reduction, group):
    """Statistics add over micro-batches, and values then add up to the uncut step."""
    rewards = torch.randn(8, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = pairs(rewards[:, 0].tolist(), rewards[:, 1].tolist())
    bsr = BatchSumToZero(coefficient=0.3, reduction=reduction, group_size=group)
    value = term(bsr, whole)
    value.backward()
    parts = []
    for start in range(0, 8, 2):
        part = pairs(rewards[start : start + 2, 0].tolist(), rewards[start : start + 2, 1].tolist())
        parts.append(type(part)(**{**vars(part), "order": part.order + start, "step_pairs": 8}))
    stats = [bsr.statistics(part) for part in parts]
    total = {name: sum(s[name] for s in stats) for name in stats[0]}
    cut = sum(bsr(part, total).values.sum() for part in parts) / 8
    cut.backward()
    assert torch.allclose(cut, value, atol=1e-12)
    assert torch.allclose(torch.cat([part.reward.grad for part in parts]), whole.reward.grad, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"coefficient": -1.0}, {"group_size": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(RecipeError):
        BatchSumToZero(**wrong)
