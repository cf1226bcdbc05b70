"""Penalties by step: hand-worked values, gradients of their divergences, and what happens at infinity."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trueup.functional.penalties import KINDS, penalize, step_penalty, trimmed_mean

LOG_RATIO = torch.tensor([math.log(2.0), 0.0, -math.log(2.0)], dtype=torch.float64)
REWARD = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("kl", [1 - 0.5 * math.log(2), 1, 1 + 0.5 * math.log(2)]),
        ("chi2", [0.5, 1, 1.25]),
        ("tv", [0.5, 1, 1.5]),
        # X = (1 + 0 - 0.5) / 3 = 1 / 6
        ("sqrt_chi2", [1 - 0.5 * math.sqrt(6), 1, 1 + 0.25 * math.sqrt(6)]),
    ],
)
def test_by_hand(kind, expected):
    found = penalize(REWARD, LOG_RATIO, kind=kind, coefficient=0.5, trim=0.0)
    assert found.reward.tolist() == pytest.approx(expected)
    assert found.clipped == 0


def test_nothing_is_divided_where_the_mean_is_not_positive():
    below = -LOG_RATIO.abs()
    plain, scaled = (penalize(REWARD, below, kind=kind, coefficient=1.0) for kind in ("chi2", "sqrt_chi2"))
    assert torch.equal(plain.reward, scaled.reward)


@pytest.mark.parametrize("kind", ["kl", "chi2", "sqrt_chi2"])
def test_an_infinite_ratio_is_clipped_not_forgiven(kind):
    ratio = torch.tensor([math.inf, 0.0, 0.0, -math.inf], dtype=torch.float64)
    found = penalize(torch.zeros(4).double(), ratio, kind=kind, coefficient=2.0, clip=10.0, trim=0.0)
    assert found.reward.isfinite().all()
    assert float(found.reward[0]) == -20.0
    assert float(found.reward[0]) < float(found.reward[1])
    assert found.clipped == {"kl": 0.5, "chi2": 0.25, "sqrt_chi2": 0.25}[kind]


def test_the_share_of_clipped_steps_counts_their_weights():
    ratio, weight = torch.tensor([5.0, 0.0]), torch.tensor([3.0, 1.0])
    assert penalize(torch.zeros(2), ratio, kind="kl", coefficient=1.0, clip=1.0, weight=weight).clipped == 0.75


def test_a_ratio_that_is_not_a_number_stops():
    with pytest.raises(FloatingPointError, match="the discriminator has diverged"):
        penalize(torch.zeros(1), torch.tensor([math.nan]), kind="kl", coefficient=1.0)


@pytest.mark.parametrize("setting", [{"coefficient": -1.0}, {"clip": 0.0}, {"trim": 0.5}])
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match="coefficient must be at least 0"):
        penalize(REWARD, LOG_RATIO, **{"kind": "kl", "coefficient": 1.0, **setting})


def test_unknown_kind():
    with pytest.raises(ValueError, match="no penalty 'wasserstein'; known: kl, chi2, sqrt_chi2, tv"):
        penalize(REWARD, LOG_RATIO, kind="wasserstein", coefficient=1.0)


@given(seed=st.integers(0, 1000), trim=st.sampled_from([0.0, 0.1, 0.25]))
def test_the_trimmed_mean_is_scipy_s(seed, trim):
    values = torch.randn(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = stats.trim_mean(values.numpy(), trim)
    assert float(trimmed_mean(values, torch.ones(20).double(), trim=trim)) == pytest.approx(expected)


def test_a_weight_is_so_many_copies():
    values, weight = torch.tensor([4.0, 1.0, 7.0]).double(), torch.tensor([1.0, 3.0, 6.0]).double()
    copies = values.repeat_interleave(weight.long())
    assert float(trimmed_mean(values, weight, trim=0.2)) == pytest.approx(float(stats.trim_mean(copies.numpy(), 0.2)))


def test_trimming_tames_a_heavy_tail():
    ratio = torch.zeros(200, dtype=torch.float64)
    ratio[:99], ratio[-1] = math.log(3.0), 6.0
    found = penalize(torch.zeros(200).double(), ratio, kind="sqrt_chi2", coefficient=1.0)
    # Two steps are left out at each end, the outlier among them: 98 steps of 2 are left of 196.
    assert float(found.reward[0]) == pytest.approx(-2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_policy_gradients_of_penalised_rewards_are_those_of_the_divergences(kind):
    """On a single state, by autograd of the closed forms."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.softmax(torch.randn(6, generator=generator, dtype=torch.float64), 0)
    mu = logits.softmax(0)
    divergence = {
        "kl": (mu * (mu / reference).log()).sum(),
        "chi2": ((mu - reference) ** 2 / reference).sum() / 2,
        "sqrt_chi2": ((mu - reference) ** 2 / reference).sum().sqrt(),
        "tv": (mu - reference).abs().sum(),
    }[kind]
    (expected,) = torch.autograd.grad(-0.7 * divergence, logits, retain_graph=True)
    ratio = (mu / reference).log().detach()
    reward = penalize(torch.zeros(6).double(), ratio, kind=kind, coefficient=0.7, trim=0.0, weight=mu.detach()).reward
    (found,) = torch.autograd.grad((mu * reward).sum(), logits)
    assert torch.allclose(found, expected)


def test_the_plain_penalty_of_the_root_is_that_of_chi2():
    assert torch.equal(step_penalty(LOG_RATIO, "sqrt_chi2"), step_penalty(LOG_RATIO, "chi2"))
