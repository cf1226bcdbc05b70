"""DPO's family over divergences: each learns the policy that its own regulariser asks for."""

import math
from dataclasses import replace

import pytest
import torch
from tabular_pairs import bradley_terry, distribution, every_pair, labelled, learned, minimiser, some

from trueup.objectives import (
    CDPO,
    DPO,
    IPO,
    AlphaDPO,
    ChiSquaredDPO,
    ChiSquaredPO,
    ForwardKLDPO,
    HingeDPO,
    JensenShannonDPO,
    RobustDPO,
)
from trueup.objectives.example import two_preferences

BETA = 0.8


def alpha_divergence(u, alpha):
    return (u ** (1 - alpha) - (1 - alpha) * u - alpha) / (alpha * (alpha - 1))


FAMILY = {
    "dpo": (DPO(beta=BETA), lambda u: u * u.log()),
    "forward_kl": (ForwardKLDPO(beta=BETA), lambda u: -u.log()),
    "js": (JensenShannonDPO(beta=BETA), lambda u: u * u.log() - (1 + u) * ((1 + u) / 2).log()),
    "alpha 0.3": (AlphaDPO(beta=BETA, alpha=0.3), lambda u: alpha_divergence(u, 0.3)),
    "alpha 2": (AlphaDPO(beta=BETA, alpha=2.0), lambda u: alpha_divergence(u, 2.0)),
    "chi-squared": (ChiSquaredDPO(beta=BETA), lambda u: (u - 1).square() / 2),
    "chi-squared and KL": (ChiSquaredPO(beta=BETA), lambda u: (u - 1).square() / 2 + u * u.log()),
    "chi-squared and some KL": (
        ChiSquaredPO(beta=BETA, kl_weight=0.25),
        lambda u: (u - 1).square() / 2 + 0.25 * u * u.log(),
    ),
}


@pytest.mark.parametrize("name", FAMILY)
def test_the_minimiser_maximises_reward_less_its_divergence(name):
    """Labels follow Bradley-Terry; the other policy is found by maximising E r - beta D_f itself."""
    term, f = FAMILY[name]
    reference, reward = distribution(0), some(1, scale=0.4)
    # Pairs from another distribution than the reference: the optimum must not depend on who drew them.
    policy = learned(term, labelled(bradley_terry(reward), distribution(2)), reference)

    def regret(logprob):
        return BETA * (reference.exp() * f((logprob - reference).exp())).sum() - (logprob.exp() * reward).sum()

    best = minimiser(regret)
    assert (best - reference).abs().max() > 0.1
    assert torch.allclose(policy, best, atol=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_rewards_are_the_derivative_of_the_divergence(name):
    term, f = FAMILY[name]
    reference, policy = distribution(0), distribution(3)
    u = (policy - reference).exp().requires_grad_()
    (slope,) = torch.autograd.grad(f(u).sum(), u)
    rewards = term(every_pair(policy, reference), {}).metrics["rewards/chosen"][:: len(u)]
    assert torch.allclose(rewards - rewards[0], BETA * (slope - slope[0]))


def test_dpo_learns_the_closed_form():
    reference, reward = distribution(0), some(1)
    policy = learned(DPO(beta=BETA), labelled(bradley_terry(reward), reference), reference)
    assert torch.allclose(policy, (reference + reward / BETA).log_softmax(0), atol=1e-7)


def values(term, seed=4, *, batch=None):
    batch = batch or every_pair(distribution(seed), distribution(seed + 1))
    return term(batch, {}).values


def test_limits_of_alpha():
    assert torch.allclose(values(AlphaDPO(alpha=1e-7)), values(DPO()), atol=1e-7)
    assert torch.allclose(values(AlphaDPO(alpha=1.0)), values(ForwardKLDPO()), rtol=1e-12)


def test_limits_of_the_mix():
    assert torch.allclose(values(ChiSquaredPO(beta=BETA, kl_weight=1e-9)), values(ChiSquaredDPO(beta=BETA)))
    assert torch.allclose(values(ChiSquaredPO(beta=BETA / 1e9, kl_weight=1e9)), values(DPO(beta=BETA)), atol=1e-7)


def test_near_the_reference_all_are_dpo_and_the_even_mix_twice_as_strong():
    """f''(1) is 1 for all but Jensen-Shannon's, where it is a half, and chi-squared with KL, where it is 2."""
    reference = distribution(0)
    near = every_pair(reference + 1e-5 * some(1), reference)
    expected = DPO(beta=BETA)(near, {}).metrics["rewards/margins"]
    for name, factor in {"forward_kl": 1, "alpha 0.3": 1, "chi-squared": 1, "chi-squared and KL": 2, "js": 0.5}.items():
        margins = FAMILY[name][0](near, {}).metrics["rewards/margins"]
        assert torch.allclose(margins, factor * expected, rtol=1e-3, atol=1e-9), name


def test_chi_squared_po_clips_the_margin_on_both_sides():
    """Log-ratios log 4 and 0: margin 3 + log 4 = 4.386 at beta 1, and its negative for the pair turned round."""
    batch = replace(two_preferences(), pairs=torch.tensor([[0, 1], [1, 0]]))
    free, clipped = ChiSquaredPO(beta=1.0), ChiSquaredPO(beta=1.0, reward_limit=2.0)
    margin = 3 + math.log(4)
    assert free(batch, {}).metrics["rewards/margins"].tolist() == pytest.approx([margin, -margin])
    loss = clipped(batch, {})
    assert loss.values.tolist() == pytest.approx([math.log1p(math.exp(-4)), math.log1p(math.exp(4))])
    assert loss.metrics["rewards/margins"].tolist() == pytest.approx([margin, -margin])
    (slope,) = torch.autograd.grad(loss.values.sum(), batch.logprob)
    assert not slope.any()
    wide = ChiSquaredPO(beta=1.0, reward_limit=2.2)
    assert torch.equal(wide(batch, {}).values, free(batch, {}).values)


def test_chi_squared_punishes_straying_more_than_dpo():
    """To gain the same margin, a response that was rare must rise less."""
    reference, reward = distribution(0), torch.tensor([0.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    weight = labelled(bradley_terry(reward), reference)
    dpo, chi = (learned(term, weight, reference) for term in (DPO(beta=1.0), ChiSquaredPO(beta=1.0)))
    assert reference[3] + 0.1 < chi[3] < dpo[3] - 0.1


def test_smoothing_of_nothing_is_dpo():
    for term in (CDPO(label_smoothing=0.0), RobustDPO(label_smoothing=0.0)):
        assert torch.equal(values(term), values(DPO()))


def flipped(preferred, rate):
    return (1 - rate) * preferred + rate * preferred.T


def test_robust_dpo_learns_from_flipped_labels_what_dpo_learns_from_true_ones():
    reference, reward = distribution(0), some(1)
    true = bradley_terry(reward)
    noisy = labelled(flipped(true, 0.2), reference)
    expected = (reference + reward / BETA).log_softmax(0)
    policy = learned(RobustDPO(beta=BETA, label_smoothing=0.2), noisy, reference)
    assert torch.allclose(policy, expected, atol=1e-6)
    assert not torch.allclose(learned(DPO(beta=BETA), noisy, reference), expected, atol=1e-2)


def test_cdpo_is_dpo_on_labels_that_it_flips_itself():
    reference, reward = distribution(0), some(1)
    true = bradley_terry(reward)
    mine = learned(CDPO(beta=BETA, label_smoothing=0.2), labelled(true, reference), reference)
    dpo = learned(DPO(beta=BETA), labelled(flipped(true, 0.2), reference), reference)
    assert torch.allclose(mine, dpo, atol=1e-6)


def test_cdpo_stops_where_the_margin_says_what_it_believes():
    batch = two_preferences()
    size = math.log(0.8 / 0.2) / math.log(4)
    (slope,) = torch.autograd.grad(CDPO(beta=size, label_smoothing=0.2)(batch, {}).values[0], batch.logprob)
    assert slope.abs().max() < 1e-12


def test_ipo_learns_the_probability_of_being_preferred():
    """pi_ref exp(P(y > drawn) / tau), normalised: theorem 2 of its paper, with any preferences."""
    drawn, reference = distribution(2), distribution(0)
    raw = torch.rand(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    preferred = raw / (raw + raw.T)
    policy = learned(IPO(beta=0.6), labelled(preferred, drawn), reference)
    assert torch.allclose(policy, (reference + preferred @ drawn.exp() / 0.6).log_softmax(0), atol=1e-8)


def test_hinge_lets_go_of_a_pair_at_its_margin():
    batch = two_preferences()
    loss = HingeDPO(beta=1.01 / math.log(4))(batch, {})
    assert loss.values.tolist() == pytest.approx([0, 1])
    (slope,) = torch.autograd.grad(loss.values.sum(), batch.logprob)
    assert not slope[:3].any()
    assert slope[3:].abs().min() > 0
