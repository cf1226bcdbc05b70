"""Exact optimisation: closed forms on a bandit, the order of penalties on the board, and bounds on random processes."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize

from trueup.divergences.occupancy import normalized_return
from trueup.lab.tabular.gridworld import gridworld
from trueup.lab.tabular.guarantee import NOTHING, Checked, check_bounds, check_random
from trueup.lab.tabular.mdp import Mdp, Problem
from trueup.lab.tabular.regularized import PENALTIES, Ascent, optimize, visits

FAST = Ascent(steps=300, learning_rate=0.3)
# What a smaller program found on a board like this one: best true return of any coefficient.
EXPECTED = {"OM sqrt-chi2": 0.773, "OM KL": 0.763, "AD KL": 0.742, "AD sqrt-chi2": 0.654}


def bandit(rewards, reference):
    reward = torch.tensor([rewards], dtype=torch.float64)
    mdp = Mdp(
        transition=torch.ones(1, len(rewards), 1).double(),
        start=torch.ones(1).double(),
        gamma=0.5,
        true=reward,
        proxy=reward,
    )
    return Problem(mdp=mdp, reference=torch.tensor([reference], dtype=torch.float64))


BANDIT = bandit([0.0, 0.4, 1.0], [0.5, 0.3, 0.2])


@pytest.mark.parametrize("name", ["OM KL", "AD KL"])
def test_kl_on_a_bandit_is_an_exponential_tilt(name):
    sweep = optimize(BANDIT, name, coefficients=[0.3, 1.0], ascent=FAST)
    for policy, c in zip(sweep.policy, (0.3, 1.0), strict=True):
        expected = torch.softmax(BANDIT.reference.log() + BANDIT.mdp.proxy / c, -1)
        assert torch.allclose(policy, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["OM chi2", "AD chi2"])
def test_chi2_on_a_bandit_tilts_in_a_straight_line(name):
    """`mu = reference (1 + (R - J) / (2 c))`, as long as it is positive."""
    sweep = optimize(BANDIT, name, coefficients=[1.0], ascent=FAST)
    gap = BANDIT.mdp.proxy - (BANDIT.reference * BANDIT.mdp.proxy).sum()
    assert torch.allclose(sweep.policy[0], BANDIT.reference * (1 + gap / 2), atol=1e-4)


@pytest.mark.parametrize("name", ["OM sqrt-chi2", "AD sqrt-chi2"])
def test_the_root_holds_the_reference_from_one_sigma_on(name):
    """The proxy rises by at most sigma times sqrt(chi2): below sigma it pays to leave, above it does not."""
    sigma = BANDIT.quality.sigma_proxy
    near, far = optimize(BANDIT, name, coefficients=[1.2 * sigma, 0.8 * sigma], ascent=FAST).policy
    assert torch.allclose(near, BANDIT.reference, atol=0.01)
    assert float(far[0, 2]) > 0.4


@pytest.mark.parametrize("name", PENALTIES)
def test_the_optimum_is_scipy_s(name):
    """On three states with two actions a general optimiser finds no better objective, and no worse one."""
    generator = torch.Generator().manual_seed(1)
    transition = torch.softmax(2 * torch.randn(3, 2, 3, generator=generator).double(), -1)
    rewards = torch.randn(2, 3, 2, generator=generator).double()
    mdp = Mdp(transition=transition, start=transition[0, 0], gamma=0.8, true=rewards[0], proxy=rewards[1])
    problem = Problem(mdp=mdp, reference=torch.softmax(torch.randn(3, 2, generator=generator).double(), -1))
    found = float(optimize(problem, name, coefficients=[0.2], ascent=FAST).objective)

    def loss(x):
        seen = visits(problem, torch.softmax(torch.tensor(x.reshape(3, 2)), -1))
        return float(0.2 * PENALTIES[name](seen) - normalized_return(seen.mu, mdp.proxy))

    starts = torch.randn(2, 6, generator=generator).double().numpy()
    best = max(-minimize(loss, start, method="Nelder-Mead", options={"maxiter": 800}).fun for start in starts)
    assert found == pytest.approx(best, abs=2e-3)


def test_coefficients_do_not_see_each_other():
    problem, quick = gridworld(), Ascent(steps=20)
    together = optimize(problem, "OM KL", coefficients=[0.1, 1.0], ascent=quick)
    alone = optimize(problem, "OM KL", coefficients=[1.0], ascent=quick)
    assert torch.allclose(together.policy[1], alone.policy[0])
    assert float(together.true[1]) == pytest.approx(float(alone.true[0]))


def test_noise_follows_its_seed():
    one, same, other = (
        optimize(BANDIT, "OM KL", coefficients=[0.1], ascent=Ascent(steps=2, noise=0.5, seed=seed)).policy
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_what_cannot_be_optimised_is_refused():
    with pytest.raises(ValueError, match="no penalty 'OM'; known: OM sqrt-chi2"):
        optimize(BANDIT, "OM", coefficients=[1.0])
    for wrong in ([], [-0.1]):
        with pytest.raises(ValueError, match="coefficients must be at least 0"):
            optimize(BANDIT, "OM KL", coefficients=wrong)


# The claim


@pytest.fixture(scope="module")
def board():
    return gridworld()


@pytest.fixture(scope="module")
def sweeps(board):
    coefficients = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
    return {name: optimize(board, name, coefficients=coefficients, ascent=FAST) for name in EXPECTED}


def test_without_a_penalty_the_proxy_is_hacked_completely(board, sweeps):
    for sweep in sweeps.values():
        assert float(sweep.true[0]) < 0.002
        assert float(sweep.proxy[0]) == pytest.approx(2 * 0.95**3, rel=0.01)


def test_the_best_returns_are_those_expected_in_that_order(sweeps):
    best = {name: sweep.best for name, sweep in sweeps.items()}
    for name, expected in EXPECTED.items():
        assert best[name] == pytest.approx(expected, abs=0.03)
    assert best["OM sqrt-chi2"] == pytest.approx(0.773, abs=0.002)
    assert best["OM sqrt-chi2"] > best["OM KL"] > best["AD KL"] > best["AD sqrt-chi2"]


def test_returns_by_coefficient(sweeps):
    expected = {
        "OM sqrt-chi2": [0.771, 0.773, 0.773, 0.771, 0.736],
        "OM KL": [0.0, 0.001, None, 0.762, 0.763, 0.748, 0.717, 0.686],
        "AD KL": [0.0, 0.0, 0.0, 0.0, 0.0, None, 0.742, 0.714],
    }
    for name, row in expected.items():
        for found, value in zip(sweeps[name].true[1:].tolist(), row, strict=False):
            assert value is None or found == pytest.approx(value, abs=0.02)


def test_the_range_of_good_coefficients_is_wide_with_the_root(board, sweeps):
    usual = float(normalized_return(board.mdp.occupancy(board.reference), board.mdp.true))
    half = (usual + 0.95**5) / 2

    def good(name):
        return [c for c, true in zip(sweeps[name].coefficient.tolist(), sweeps[name].true, strict=True) if true > half]

    root, plain = good("OM sqrt-chi2"), good("OM KL")
    assert root[-1] / root[0] > 20
    assert root[-1] / root[0] > 3 * plain[-1] / plain[0]
    assert root[0] < board.quality.theory_coefficient < root[-1]


def test_optimised_policies_keep_the_theorem(board, sweeps):
    policies = torch.cat([sweep.policy for sweep in sweeps.values()])
    checked = check_bounds(board, policies)
    assert checked.cases == 36
    assert checked.violations == 0


# Bounds


def test_the_theorem_holds_on_thousands_of_random_policies():
    checked = check_random(600, policies=40, seed=1)
    assert checked.cases == 24_000
    assert checked.violations == 0
    assert checked.tight > -1e-9
    # The bound is not idle: some policies come close.
    assert checked.tight < 1e-3


def test_a_wrong_correlation_is_noticed(board, monkeypatch):
    """With a proxy that pretends to be perfect, hacking falls below the bound."""
    hacked = optimize(board, "OM KL", coefficients=[0.0], ascent=FAST).policy
    pretended = replace(board.quality, correlation=1.0)
    monkeypatch.setattr(Problem, "quality", property(lambda self: pretended))
    assert check_bounds(board, hacked).violations == 1


def test_nothing_is_promised_for_an_uncorrelated_proxy(board):
    mdp = replace(board.mdp, proxy=-board.mdp.true)
    assert check_bounds(Problem(mdp=mdp, reference=board.reference), board.reference[None]) == NOTHING


def test_checks_add_up():
    one = Checked(cases=2, violations=1, theorem=-0.5, tight=0.3)
    other = Checked(cases=3, violations=0, theorem=0.1, tight=0.2)
    assert one + other == Checked(cases=5, violations=1, theorem=-0.5, tight=0.2)
    assert math.isinf((NOTHING + NOTHING).tight)
