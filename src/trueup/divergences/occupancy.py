"""Occupancy measures of a finite decision process, divergences between them, and what a correlated proxy guarantees.

With states s, actions a, discount gamma and start distribution mu_0, the occupancy measure of a policy is

    mu(s, a) = (1 - gamma) E[sum_t gamma^t 1{s_t = s, a_t = a}],   mu(s) = (1 - gamma) (I - gamma P^T)^-1 mu_0,

a distribution over pairs, with `J(R) = sum mu R` the normalised return. Let r be the correlation of proxy and true
reward under the reference's occupancy, A the proxy's gain over the reference in the proxy's standard deviations, and
chi2 the divergence of the policy's occupancy from the reference's. The true reward's gain, in its own, is at least

    (A - sqrt((1 - r^2) chi2)) / r            (theorem; r > 0)
    r A - sqrt(1 - r^2) sqrt(chi2 - A^2)      (tighter, and attained by some true reward of that correlation)

Leading dimensions of policies and occupancies are batches. All of it is differentiable; use float64.

**Source** Laidlaw, Singhal, Dragan (2025), Correlated Proxies: A New Definition and Improved Mitigation for Reward
Hacking, arXiv 2403.03185, definition 4.1 and theorem 5.1; the tighter bound after arXiv 2604.12086.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def state_occupancy(
    policy: Float[Tensor, "*b s a"], transition: Float[Tensor, "s a s"], *, start: Float[Tensor, " s"], gamma: float
) -> Float[Tensor, "*b s"]:
    """Share of discounted time in each state, by a linear solve.

    Args:
        policy: Probability of each action in each state.
        transition: Probability of each next state after each action in each state.
        start: Distribution of the first state.
        gamma: Discount, at least 0 and below 1.

    Raises:
        ValueError: gamma is out of range.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma must be at least 0 and below 1, got {gamma}")
    moves = torch.einsum("...sa,sat->...ts", policy, transition)
    identity = torch.eye(len(start), dtype=policy.dtype, device=policy.device)
    found: Tensor = torch.linalg.solve(identity - gamma * moves, (1 - gamma) * start.expand(moves.shape[:-1]))
    return found


def occupancy(
    policy: Float[Tensor, "*b s a"], transition: Float[Tensor, "s a s"], *, start: Float[Tensor, " s"], gamma: float
) -> Float[Tensor, "*b s a"]:
    """Occupancy measure of state-action pairs; arguments of `state_occupancy`."""
    return state_occupancy(policy, transition, start=start, gamma=gamma)[..., None] * policy


def normalized_return(mu: Float[Tensor, "*b s a"], reward: Float[Tensor, "s a"]) -> Float[Tensor, "*b"]:
    """`J = sum mu R`: the mean reward of a discounted step, `1 - gamma` times the discounted return."""
    return (mu * reward).sum((-2, -1))


def chi2(mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"]) -> Float[Tensor, "*b"]:
    """`sum (mu - reference)^2 / reference`; infinite where the policy goes and the reference never does.

    >>> pair = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    >>> round(float(chi2(*pair)), 4)
    1.7778
    """
    return _chi2_terms(mu, reference).sum((-2, -1))


def sqrt_chi2(mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"]) -> Float[Tensor, "*b"]:
    """Square root of `chi2`, with a gradient of zero at the reference, where it has a kink."""
    return safe_sqrt(chi2(mu, reference))


def kl(mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"]) -> Float[Tensor, "*b"]:
    """`sum mu log(mu / reference)`, nats; infinite where the policy goes and the reference never does."""
    return _kl_terms(mu, reference).sum((-2, -1))


def total_variation(mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"]) -> Float[Tensor, "*b"]:
    """`sum |mu - reference| / 2`: the largest change of the return of any reward within [0, 1]."""
    return (mu - reference).abs().sum((-2, -1)) / 2


def action_kl(
    policy: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"], *, states: Float[Tensor, "*b s"]
) -> Float[Tensor, "*b"]:
    """KL of the action distributions, nats, weighted by the states that the policy visits."""
    return (states * _kl_terms(policy, reference).sum(-1)).sum(-1)


def action_chi2(
    policy: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"], *, states: Float[Tensor, "*b s"]
) -> Float[Tensor, "*b"]:
    """Chi-squared of the action distributions, weighted by the states that the policy visits."""
    return (states * _chi2_terms(policy, reference).sum(-1)).sum(-1)


def action_sqrt_chi2(
    policy: Float[Tensor, "*b s a"], reference: Float[Tensor, "s a"], *, states: Float[Tensor, "*b s"]
) -> Float[Tensor, "*b"]:
    """Square root of `action_chi2`: where nothing follows a choice it is `sqrt_chi2` of the occupancies."""
    return safe_sqrt(action_chi2(policy, reference, states=states))


def _chi2_terms(p: Tensor, q: Tensor) -> Tensor:
    gap = p - q
    return torch.where(gap == 0, torch.zeros_like(gap), gap.square() / q)


def _kl_terms(p: Tensor, q: Tensor) -> Tensor:
    return torch.special.xlogy(p, p) - torch.special.xlogy(p, q)


def safe_sqrt(value: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Square root whose gradient at 0 is 0: a finite member of the directions that a kink allows."""
    positive = value > 0
    return torch.where(positive, value, torch.ones_like(value)).sqrt() * positive


@dataclass(frozen=True, kw_only=True)
class ProxyQuality:
    """What proxy and true reward are to each other under the reference's discounted occupancy.

    Args:
        correlation: Pearson's r; NaN where a reward is constant there.
        sigma_true: Standard deviation of the true reward.
        sigma_proxy: Standard deviation of the proxy.
    """

    correlation: float
    sigma_true: float
    sigma_proxy: float

    @property
    def theory_coefficient(self) -> float:
        """The coefficient of sqrt-chi2 that the theorem asks for: `sigma_proxy sqrt(1 - r^2)`."""
        return float(self.sigma_proxy * max(0.0, 1 - self.correlation**2) ** 0.5)


def proxy_quality(
    reference: Float[Tensor, "s a"], *, true: Float[Tensor, "s a"], proxy: Float[Tensor, "s a"]
) -> ProxyQuality:
    """Correlation and spreads under the occupancy `reference`."""
    a, b = (reward - normalized_return(reference, reward) for reward in (true, proxy))
    spread_a, spread_b = (float((reference * gap.square()).sum()) ** 0.5 for gap in (a, b))
    product = spread_a * spread_b
    return ProxyQuality(
        correlation=float((reference * a * b).sum()) / product if product else float("nan"),
        sigma_true=spread_a,
        sigma_proxy=spread_b,
    )


def improvement_bound(
    proxy_gain: Float[Tensor, "*b"], chi2: Float[Tensor, "*b"], *, correlation: float
) -> Float[Tensor, "*b"]:
    """The theorem's lower bound on the true reward's gain.

    Args:
        proxy_gain: The proxy's gain over the reference, in its standard deviations there.
        chi2: Chi-squared of the policy's occupancy from the reference's.
        correlation: r under the reference.

    Returns:
        In standard deviations of the true reward under the reference; NaN unless r is positive.
    """
    slack = proxy_gain - (max(0.0, 1 - correlation**2) * chi2).sqrt()
    return slack / correlation if correlation > 0 else torch.full_like(slack, torch.nan)


def tight_improvement_bound(
    proxy_gain: Float[Tensor, "*b"], chi2: Float[Tensor, "*b"], *, correlation: float
) -> Float[Tensor, "*b"]:
    """The attained lower bound, for any r; arguments and unit of `improvement_bound`.

    `chi2 >= proxy_gain^2` for every policy; what falls short of it by rounding counts as equal.
    """
    rest = (chi2 - proxy_gain.square()).clamp_min(0.0).sqrt()
    return correlation * proxy_gain - max(0.0, 1 - correlation**2) ** 0.5 * rest
