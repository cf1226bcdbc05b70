"""Occupancies against rollouts, divergences against hand-worked values, and the theorem's bounds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trueup.divergences.occupancy import (
    ProxyQuality,
    action_chi2,
    action_kl,
    action_sqrt_chi2,
    chi2,
    improvement_bound,
    kl,
    normalized_return,
    occupancy,
    proxy_quality,
    safe_sqrt,
    sqrt_chi2,
    state_occupancy,
    tight_improvement_bound,
    total_variation,
)
from trueup.measure import proxy_gold

SEEDS = st.integers(0, 2**20)


def simplex(generator, *shape):
    """Random distributions over the last dimension."""
    return torch.softmax(2 * torch.randn(shape, generator=generator, dtype=torch.float64), -1)


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_process(seed, states=4, actions=3):
    generator = seeded(seed)
    transition = simplex(generator, states * actions, states).reshape(states, actions, states)
    return generator, transition, simplex(generator, states)


# Occupancies


def test_two_states_by_hand():
    """From the first state the only move leads to the second, never left: 1 - gamma of the time, then gamma."""
    transition = table([[0.0, 1.0]], [[0.0, 1.0]]).reshape(2, 1, 2)
    mu = state_occupancy(torch.ones(2, 1).double(), transition, start=table([1.0, 0.0])[0], gamma=0.9)
    assert mu.tolist() == pytest.approx([0.1, 0.9])


@given(seed=SEEDS, gamma=st.floats(0, 0.98))
def test_an_occupancy_is_a_distribution_that_balances_its_flow(seed, gamma):
    generator, transition, start = random_process(seed)
    policy = simplex(generator, 2, 4, 3)
    mu = occupancy(policy, transition, start=start, gamma=gamma)
    assert mu.min() >= 0
    assert mu.sum((-2, -1)).tolist() == pytest.approx([1, 1])
    entering = (1 - gamma) * start + gamma * torch.einsum("bsa,sat->bt", mu, transition)
    assert torch.allclose(mu.sum(-1), entering)
    assert torch.allclose(mu / mu.sum(-1, keepdim=True), policy)


def test_the_return_is_the_average_of_rollouts():
    generator, transition, start = random_process(0)
    policy, reward, gamma = simplex(generator, 4, 3), torch.randn(4, 3, generator=generator).double(), 0.8
    count, horizon = 20_000, 60
    state = torch.multinomial(start, count, replacement=True, generator=generator)
    returns = torch.zeros(count, dtype=torch.float64)
    for t in range(horizon):
        action = torch.multinomial(policy[state], 1, generator=generator)[:, 0]
        returns += (1 - gamma) * gamma**t * reward[state, action]
        state = torch.multinomial(transition[state, action], 1, generator=generator)[:, 0]
    exact = float(normalized_return(occupancy(policy, transition, start=start, gamma=gamma), reward))
    error = float(returns.std()) / count**0.5
    assert float(returns.mean()) == pytest.approx(exact, abs=4 * error)
    assert error < 0.02


def test_a_batch_is_its_members():
    generator, transition, start = random_process(3)
    policies = simplex(generator, 2, 5, 4, 3)
    together = occupancy(policies, transition, start=start, gamma=0.9)
    alone = occupancy(policies[1, 2], transition, start=start, gamma=0.9)
    assert torch.allclose(together[1, 2], alone)


@pytest.mark.parametrize("gamma", [-0.1, 1.0])
def test_a_discount_out_of_range_is_refused(gamma):
    _, transition, start = random_process(0)
    with pytest.raises(ValueError, match="gamma must be at least 0 and below 1"):
        state_occupancy(torch.full((4, 3), 1 / 3).double(), transition, start=start, gamma=gamma)


# Divergences


def test_two_points():
    mu, reference = table([0.5, 0.5]), table([0.9, 0.1])
    assert float(chi2(mu, reference)) == pytest.approx(16 / 9)
    assert float(sqrt_chi2(mu, reference)) == pytest.approx(4 / 3)
    assert float(kl(mu, reference)) == pytest.approx(0.5108, abs=5e-5)
    assert float(total_variation(mu, reference)) == pytest.approx(0.4)


@given(seed=SEEDS)
def test_divergences_are_ordered_and_agree_with_scipy(seed):
    generator = seeded(seed)
    mu, reference = (simplex(generator, 12).reshape(4, 3) for _ in range(2))
    distance, nats = float(chi2(mu, reference)), float(kl(mu, reference))
    assert distance >= math.expm1(nats) - 1e-12 >= nats - 1e-12
    assert nats == pytest.approx(float(stats.entropy(mu.flatten(), reference.flatten())))
    assert distance == pytest.approx(float((mu.square() / reference).sum()) - 1)
    assert 2 * float(total_variation(mu, reference)) ** 2 <= nats + 1e-12


@pytest.mark.parametrize("divergence", [chi2, sqrt_chi2, kl, total_variation])
def test_equal_measures_have_no_distance(divergence):
    mu = simplex(seeded(1), 12).reshape(4, 3)
    assert float(divergence(mu, mu)) == pytest.approx(0, abs=1e-15)
    assert float(divergence(simplex(seeded(2), 12).reshape(4, 3), mu)) > 0.01


def test_what_the_reference_never_visits():
    mu, reference = table([0.5, 0.5, 0.0]), table([1.0, 0.0, 0.0])
    assert float(chi2(mu, reference)) == math.inf
    assert float(kl(mu, reference)) == math.inf
    assert float(chi2(reference, mu)) == pytest.approx(1)
    assert float(kl(reference, mu)) == pytest.approx(math.log(2))


def test_total_variation_bounds_every_reward_within_one():
    generator = seeded(4)
    mu, reference = (simplex(generator, 6).reshape(2, 3) for _ in range(2))
    changes = [float(normalized_return(mu - reference, torch.tensor(bits).double().reshape(2, 3)))
               for bits in np.ndindex(2, 2, 2, 2, 2, 2)]  # fmt: skip
    assert max(changes) == pytest.approx(float(total_variation(mu, reference)))


def test_the_square_root_has_a_finite_gradient_at_the_reference():
    reference = simplex(seeded(5), 6).reshape(2, 3)
    mu = reference.clone().requires_grad_()
    sqrt_chi2(mu, reference).backward()
    assert mu.grad.abs().max() == 0
    value = torch.tensor([0.0, 4.0], dtype=torch.float64, requires_grad=True)
    safe_sqrt(value).sum().backward()
    assert value.grad.tolist() == [0, 0.25]


def test_gradients_are_those_of_finite_differences():
    generator, transition, start = random_process(6, states=3, actions=2)
    reference = simplex(generator, 3, 2)
    usual = occupancy(reference, transition, start=start, gamma=0.9)

    def distances(logits):
        policy = logits.softmax(-1)
        mu = occupancy(policy, transition, start=start, gamma=0.9)
        visited = mu.sum(-1)
        return torch.stack(
            [
                chi2(mu, usual),
                sqrt_chi2(mu, usual),
                kl(mu, usual),
                action_kl(policy, reference, states=visited),
                action_chi2(policy, reference, states=visited),
                action_sqrt_chi2(policy, reference, states=visited),
            ]
        )

    logits = torch.randn(3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(distances, logits)


@given(seed=SEEDS)
def test_without_a_future_occupancies_and_actions_diverge_alike(seed):
    generator, transition, start = random_process(seed)
    policy, reference = simplex(generator, 4, 3), simplex(generator, 4, 3)
    mu, usual = (occupancy(each, transition, start=start, gamma=0) for each in (policy, reference))
    visited = mu.sum(-1)
    assert torch.allclose(visited, start)
    assert float(action_kl(policy, reference, states=visited)) == pytest.approx(float(kl(mu, usual)))
    assert float(action_chi2(policy, reference, states=visited)) == pytest.approx(float(chi2(mu, usual)))
    assert float(action_sqrt_chi2(policy, reference, states=visited)) == pytest.approx(float(sqrt_chi2(mu, usual)))


def test_with_a_future_they_differ():
    generator, transition, start = random_process(7)
    policy, reference = simplex(generator, 4, 3), simplex(generator, 4, 3)
    mu, usual = (occupancy(each, transition, start=start, gamma=0.9) for each in (policy, reference))
    assert float(kl(mu, usual)) > float(action_kl(policy, reference, states=mu.sum(-1))) + 1e-3


# What a correlation guarantees


def measure_and_rewards(seed):
    """A reference measure, a policy's, and two rewards that correlate positively under the reference."""
    generator = seeded(seed)
    reference, mu = (simplex(generator, 12).reshape(4, 3) for _ in range(2))
    true, proxy = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    sign = math.copysign(1, proxy_quality(reference, true=true, proxy=proxy).correlation)
    return reference, mu, true, sign * proxy


def standardised(reference, reward):
    centred = reward - (reference * reward).sum()
    return centred / (reference * centred.square()).sum().sqrt()


@given(seed=SEEDS)
def test_the_correlation_is_that_of_weighted_samples(seed):
    reference, _, true, proxy = measure_and_rewards(seed)
    quality = proxy_quality(reference, true=true, proxy=proxy)
    pairs = np.stack([true.flatten().numpy(), proxy.flatten().numpy()])
    covariance = np.cov(pairs, aweights=reference.flatten().numpy(), ddof=0)
    assert quality.sigma_true**2 == pytest.approx(covariance[0, 0])
    assert quality.sigma_proxy**2 == pytest.approx(covariance[1, 1])
    assert quality.correlation == pytest.approx(covariance[0, 1] / (quality.sigma_true * quality.sigma_proxy))


def test_the_theorem_s_coefficient():
    quality = ProxyQuality(correlation=0.8, sigma_true=9.0, sigma_proxy=0.5)
    assert quality.theory_coefficient == pytest.approx(0.3)
    assert ProxyQuality(correlation=1.0, sigma_true=1.0, sigma_proxy=0.5).theory_coefficient == 0
    assert ProxyQuality(correlation=1 + 1e-15, sigma_true=1.0, sigma_proxy=0.5).theory_coefficient == 0


def test_a_constant_reward_correlates_with_nothing():
    reference = simplex(seeded(0), 6).reshape(2, 3)
    quality = proxy_quality(reference, true=torch.zeros(2, 3).double(), proxy=table([1, 2, 3], [4, 5, 6]))
    assert math.isnan(quality.correlation)


@given(seed=SEEDS)
def test_neither_bound_is_ever_violated(seed):
    reference, mu, true, proxy = measure_and_rewards(seed)
    quality, distance = proxy_quality(reference, true=true, proxy=proxy), chi2(mu, reference)
    gain = normalized_return(mu - reference, proxy) / quality.sigma_proxy
    truly = float(normalized_return(mu - reference, true)) / quality.sigma_true
    loose = float(improvement_bound(gain, distance, correlation=quality.correlation))
    tight = float(tight_improvement_bound(gain, distance, correlation=quality.correlation))
    assert truly >= loose - 1e-9
    assert truly >= tight - 1e-9
    assert tight >= loose - 1e-9


@given(seed=SEEDS, r=st.floats(0.01, 0.99))
def test_the_tighter_bound_is_attained(seed, r):
    """By the reward that pays least where the policy goes more often than the proxy's gain explains."""
    reference, mu, _, proxy = measure_and_rewards(seed)
    normal = standardised(reference, proxy)
    gain = normalized_return(mu, normal)
    unexplained = standardised(reference, mu / reference - 1 - gain * normal)
    worst = r * normal - math.sqrt(1 - r * r) * unexplained
    assert proxy_quality(reference, true=worst, proxy=proxy).correlation == pytest.approx(r)
    bound = tight_improvement_bound(gain, chi2(mu, reference), correlation=r)
    assert float(normalized_return(mu - reference, worst)) == pytest.approx(float(bound), abs=1e-7)


def test_a_small_step_along_the_proxy_is_guaranteed_to_help():
    reference, _, true, proxy = measure_and_rewards(8)
    quality = proxy_quality(reference, true=true, proxy=proxy)
    normal, c, r = standardised(reference, proxy), 0.01, quality.correlation
    mu = reference * (1 + c * normal)
    assert float(chi2(mu, reference)) == pytest.approx(c * c)
    gain = normalized_return(mu - reference, proxy) / quality.sigma_proxy
    assert float(gain) == pytest.approx(c)
    assert float(normalized_return(mu - reference, true)) / quality.sigma_true == pytest.approx(r * c)
    bound = float(improvement_bound(gain, chi2(mu, reference), correlation=r))
    assert bound == pytest.approx(c * (1 - math.sqrt(1 - r * r)) / r)
    assert bound > 0


def test_for_a_perfect_proxy_the_bound_is_an_equality():
    reference, mu, true, _ = measure_and_rewards(9)
    proxy = 3 * true + 2
    quality = proxy_quality(reference, true=true, proxy=proxy)
    assert quality.correlation == pytest.approx(1)
    assert quality.theory_coefficient == pytest.approx(0, abs=1e-6)
    gain = normalized_return(mu - reference, proxy) / quality.sigma_proxy
    truly = float(normalized_return(mu - reference, true)) / quality.sigma_true
    for bound in (improvement_bound, tight_improvement_bound):
        assert float(bound(gain, chi2(mu, reference), correlation=1.0)) == pytest.approx(truly)


@pytest.mark.parametrize("r", [0.3, 0.9, -0.2])
def test_bounds_are_those_of_the_measures(r):
    gain, distance = table([0.2, 1.0])[0], table([0.5, 4.0])[0]
    for name in ("improvement_bound", "tight_improvement_bound"):
        ours = globals()[name](gain, distance, correlation=r).numpy()
        theirs = getattr(proxy_gold, name)(gain.numpy(), distance.numpy(), r=r)
        np.testing.assert_allclose(ours, theirs)
