"""INPO: one round is a step of mirror descent; rounds lead to the Nash policy."""

from dataclasses import replace

import pytest
import torch
from tabular_pairs import distribution, every_pair, labelled, learned

from trueup.objectives import INPO, IPO
from trueup.objectives.example import two_preferences

ETA, TAU = 0.6, 0.25


def preferences(seed):
    """Any: they need not be transitive."""
    raw = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return raw / (raw + raw.T)


def next_policy(preferred, reference, previous, *, eta, tau):
    """The closed form of a step of mirror descent."""
    wins = preferred @ previous.exp()
    return (wins / eta + tau / eta * reference + (1 - tau / eta) * previous).log_softmax(0)


def round_of(preferred, reference, previous, *, eta, tau):
    """The policy learned from all pairs of the previous one."""
    return learned(INPO(eta=eta, tau=tau), labelled(preferred, previous), reference, previous=previous)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tau", [0.0, TAU, ETA])
def test_the_minimiser_is_the_step_of_mirror_descent(seed, tau):
    preferred, reference, previous = preferences(seed), distribution(seed + 10), distribution(seed + 20)
    policy = round_of(preferred, reference, previous, eta=ETA, tau=tau)
    assert torch.allclose(policy, next_policy(preferred, reference, previous, eta=ETA, tau=tau), atol=1e-8)


def test_exchanging_the_responses_changes_the_sign():
    batch = every_pair(distribution(0), distribution(1), previous=distribution(2))
    loss = INPO(eta=ETA, tau=TAU)(batch, {})
    margin = loss.metrics["rewards/margins"].view(4, 4)
    assert torch.allclose(margin, -margin.T)
    assert torch.allclose(loss.values.view(4, 4), (margin / ETA - 1 / (2 * ETA)).square())


def test_its_limits_are_ipo():
    batch = every_pair(distribution(0), distribution(1), previous=distribution(2))
    ipo = IPO(beta=ETA)
    assert torch.allclose(INPO(eta=ETA, tau=ETA)(batch, {}).values, ipo(batch, {}).values, rtol=1e-12)
    held = replace(batch, reference=batch.previous)
    assert torch.allclose(INPO(eta=ETA, tau=0.0)(batch, {}).values, ipo(held, {}).values, rtol=1e-12)
    # Forgetting the previous policy is IPO as well, whatever tau is: it must be read again in each round.
    forgotten = replace(batch, previous=batch.reference)
    assert torch.allclose(INPO(eta=ETA, tau=TAU)(forgotten, {}).values, ipo(batch, {}).values, rtol=1e-12)


def test_without_a_tau_it_is_a_third_of_eta():
    batch = every_pair(distribution(0), distribution(1), previous=distribution(2))
    assert torch.allclose(INPO(eta=ETA)(batch, {}).values, INPO(eta=ETA, tau=ETA / 3)(batch, {}).values, rtol=1e-12)


def test_the_first_step_of_the_first_round():
    """Every loss is 1 / (4 eta^2), and its gradient -1 / eta for tokens of the chosen response."""
    batch = two_preferences()
    batch = replace(batch, reference=batch.previous)
    loss = INPO(eta=0.005)(batch, {})
    assert loss.values.tolist() == pytest.approx([1e4, 1e4])
    (slope,) = torch.autograd.grad(loss.values.sum(), batch.logprob)
    assert slope.tolist() == pytest.approx([-200, -200, 200, -200, 200, 200])


def test_coin_flips_leave_the_previous_policy_as_it_is():
    previous = distribution(2)
    coin = torch.full((4, 4), 0.5, dtype=torch.float64)
    assert torch.allclose(round_of(coin, distribution(1), previous, eta=ETA, tau=0.0), previous, atol=1e-8)


def duality_gap(preferred, reference, policy, tau):
    """max_p J(p, pi) - min_q J(pi, q) = 2 max_p J(p, pi) - 1; the best response is known in closed form."""
    best = tau * torch.logsumexp(reference + preferred @ policy.exp() / tau, 0)
    return (2 * (best + tau * (policy.exp() * (policy - reference)).sum()) - 1).item()


def gaps(preferred, reference, *, eta, tau, rounds):
    policy, found = reference, []
    for _ in range(rounds):
        found.append(duality_gap(preferred, reference, policy, tau))
        policy = round_of(preferred, reference, policy, eta=eta, tau=tau)
    return [*found, duality_gap(preferred, reference, policy, tau)]


CYCLE = torch.tensor([[0.5, 0.9, 0.1, 0.6], [0.1, 0.5, 0.9, 0.6], [0.9, 0.1, 0.5, 0.6], [0.4, 0.4, 0.4, 0.5]]).double()
"""The first three beat one another in a circle, and all the fourth."""


def test_rounds_of_learning_reach_the_nash_policy_of_a_circle():
    reference = distribution(1, scale=1.5)
    found = gaps(CYCLE, reference, eta=0.5, tau=0.1, rounds=10)
    assert found[0] > 0.03
    assert found[-1] < 0.1 * found[0]
    # Steps too large, eta near tau, go round and round instead.
    assert gaps(CYCLE, reference, eta=0.11, tau=0.1, rounds=10)[-1] > 0.3


def test_rounds_of_learning_reach_the_nash_policy_of_a_scale():
    scores = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    found = gaps((scores[:, None] - scores).sigmoid(), distribution(0), eta=0.3, tau=0.1, rounds=8)
    assert found[0] > 0.2
    assert found[-1] < 0.01 * found[0]
