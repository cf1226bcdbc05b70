"""Games of preferences: what can be known exactly, against what can be worked out another way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from trueup.errors import RecipeError
from trueup.lab.games.matrix import (
    Games,
    best_response,
    circular_games,
    duality_gap,
    iterate,
    kl,
    mirror_step,
    nash_policy,
    ordered_games,
    wins,
    worst_win_rate,
)

ROCK = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)[None]


def logs(*chances):
    return torch.tensor([chances], dtype=torch.float64).log()


def circle(tau=0.1):
    return Games(preferred=ROCK, reference=logs(0.5, 0.3, 0.2), tau=tau)


def test_wins_by_hand():
    """Of (1/2, 1/2, 0) against always the first: half a draw, half a loss at 0.1."""
    games, mixed, first = circle(), logs(0.5, 0.5, 0.0), logs(1.0, 0.0, 0.0)
    assert wins(games, mixed, first).item() == pytest.approx(0.3)
    assert wins(games, first, mixed).item() == pytest.approx(0.7)
    # Against it the third wins 0.9 and 0.1, the second 0.1 and 0.5, the first 0.5 and 0.9.
    assert worst_win_rate(games, mixed).item() == pytest.approx(0.3)
    assert best_response(games, mixed).exp().tolist() == [[1.0, 0.0, 0.0]]
    assert best_response(games, first).exp().tolist() == [[0.0, 0.0, 1.0]]


def test_gap_without_a_kl_by_hand():
    """0 for the uniform mixture, and 2 * 0.9 - 1 for a pure response."""
    games = circle(tau=0.0)
    assert duality_gap(games, logs(1 / 3, 1 / 3, 1 / 3)).item() == pytest.approx(0.0)
    assert duality_gap(games, logs(0.0, 1.0, 0.0)).item() == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(3))
def test_gap_against_a_numerical_best_response(seed):
    """`max_p J(p, pi) - min_q J(pi, q)`, each found by scipy."""
    games = circular_games([seed], size=4, tau=0.2)
    policy = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(1)
    preferred, reference, fixed = games.preferred[0].numpy(), games.reference[0].numpy(), policy[0].numpy()

    def payoff(one, other):
        toll = [np.sum(np.exp(each) * (each - reference)) for each in (one, other)]
        return np.exp(one) @ preferred @ np.exp(other) - games.tau * (toll[0] - toll[1])

    def normal(logits):
        return logits - np.log(np.exp(logits).sum())

    highest = -minimize(lambda logits: -payoff(normal(logits), fixed), np.zeros(4), method="BFGS").fun
    lowest = minimize(lambda logits: payoff(fixed, normal(logits)), np.zeros(4), method="BFGS").fun
    assert duality_gap(games, policy).item() == pytest.approx(highest - lowest, abs=1e-6)


@given(seed=st.integers(0, 50), other=st.integers(0, 50))
@settings(deadline=None, max_examples=20)
def test_a_gap_is_never_negative_and_the_nash_policy_is_never_beaten(seed, other):
    games = circular_games([seed], size=5)
    policy = torch.randn(1, 5, generator=torch.Generator().manual_seed(other), dtype=torch.float64).log_softmax(1)
    assert duality_gap(games, policy).item() > -1e-12
    nash = nash_policy(games)
    payoff = wins(games, nash, policy) - games.tau * (kl(nash, games.reference) - kl(policy, games.reference))
    assert payoff.item() >= 0.5 - 1e-6


def test_the_nash_policy_is_the_fixed_point_of_mirror_descent():
    games = circular_games(range(4))
    nash = nash_policy(games)
    assert torch.allclose(mirror_step(games, nash, eta=0.7), nash, atol=1e-5)


def test_rounds_converge_as_fast_as_the_theorem_says():
    """`KL(pi*, pi_(t+1)) <= (1 - tau / eta) KL(pi*, pi_t) + 8 C^2 / eta^2`; for a large eta nearly without the rest."""
    games = circular_games(range(6))
    nash, eta = nash_policy(games), 3.0
    far = [kl(nash, policy) for policy in iterate(lambda one: mirror_step(games, one, eta=eta), games.reference,
                                                  rounds=20)]  # fmt: skip
    for before, after in pairwise(far):
        assert (after <= (1 - games.tau / eta) * before + 1e-9).all()


def test_gaps_along_exact_rounds_stay_what_they_were():
    """Means over 20 games after 0, 1, 3, 10 and 50 rounds: eta must be large enough for tau."""
    found = {}
    for tau, eta in ((0.1, 0.3), (0.1, 1.0), (0.02, 0.06)):
        games = circular_games(range(20), tau=tau)
        policies = iterate(lambda one, games=games, eta=eta: mirror_step(games, one, eta=eta), games.reference,
                           rounds=50)  # fmt: skip
        found[tau, eta] = [duality_gap(games, policies[place]).mean().item() for place in (0, 1, 3, 10, 50)]
    assert found[0.1, 0.3] == pytest.approx([0.1324, 0.0743, 0.0274, 0.0065, 0.0034], abs=2e-4)
    assert found[0.1, 1.0] == pytest.approx([0.1324, 0.1091, 0.0749, 0.0205, 0.0000], abs=2e-4)
    assert found[0.02, 0.06] == pytest.approx([0.3178, 0.3287, 0.4519, 0.4468, 0.4157], abs=2e-3)


def test_ordered_games_follow_a_reward():
    odds = ordered_games([3]).preferred.logit()[0]
    assert torch.allclose(odds[0, 1] + odds[1, 2], odds[0, 2])
    crossed = circular_games([3]).preferred.logit()[0]
    assert not torch.allclose(crossed[0, 1] + crossed[1, 2], crossed[0, 2])


def test_games_side_by_side_are_the_games_alone():
    together = circular_games([4, 7])
    for place, seed in enumerate((4, 7)):
        alone = circular_games([seed])
        step = mirror_step(alone, alone.reference, eta=0.5)
        assert torch.equal(step[0], mirror_step(together, together.reference, eta=0.5)[place])
        assert duality_gap(alone, step)[0] == duality_gap(together, step.repeat(2, 1))[place]


def test_what_is_no_preference_is_refused():
    with pytest.raises(RecipeError, match="must be 1 for every pair"):
        Games(preferred=ROCK + 0.05, reference=logs(0.5, 0.3, 0.2))
    with pytest.raises(RecipeError, match="tau must be positive"):
        nash_policy(circle(tau=0.0))
    with pytest.raises(RecipeError, match="was not found"):
        nash_policy(circle(), rounds=10)
