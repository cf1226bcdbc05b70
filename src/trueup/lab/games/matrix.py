"""Two policies that answer one prompt, and a preference between every two responses.

With P(y > y') the preference, the payoff of policy p against q is

    J(p, q) = E_{y ~ p, y' ~ q} P(y > y') - tau KL(p || pi_ref) + tau KL(q || pi_ref)

and the duality gap of pi is `max_p J(p, pi) - min_q J(pi, q)`, 0 for the Nash policy alone. Several games of one size
are kept in one record, and everything is computed for all of them at once.

**Source** Munos et al. (2024), arXiv 2312.00886; Zhang et al. (2025), arXiv 2407.00617.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from trueup.errors import RecipeError

Policies = Float64[Tensor, "games k"]
"""Log-probability of every response in every game, nats."""


@dataclass(frozen=True, kw_only=True)
class Games:
    """Games of one size, each with one prompt.

    Args:
        preferred: P(row > column); the transpose is its complement to 1.
        reference: The policy that both players are held to.
        tau: Strength of that, in probability of being preferred a nat.
    """

    preferred: Float64[Tensor, "games k k"]
    reference: Policies
    tau: float = 0.1

    def __post_init__(self) -> None:
        both = self.preferred + self.preferred.transpose(1, 2)
        if not torch.allclose(both, torch.ones_like(both)):
            raise RecipeError("P(y > y') + P(y' > y) must be 1 for every pair; average both orders first")


def circular_games(seeds: Sequence[int], *, size: int = 8, strength: float = 2.0, tau: float = 0.1) -> Games:
    """Preferences without any order: the log-odds of every pair are drawn on their own.

    Args:
        seeds: One a game, of its preferences and its reference.
        size: Number of responses.
        strength: Standard deviation of the log-odds.
        tau: Strength of the KL.
    """

    def odds(generator: np.random.Generator) -> np.ndarray:
        drawn = generator.standard_normal((size, size))
        return strength * (drawn - drawn.T) / 2**0.5

    return _drawn(seeds, odds, size=size, tau=tau)


def ordered_games(seeds: Sequence[int], *, size: int = 8, strength: float = 2.0, tau: float = 0.1) -> Games:
    """Bradley-Terry preferences, as a scalar reward gives them; arguments as of `circular_games`."""

    def odds(generator: np.random.Generator) -> np.ndarray:
        reward = strength / 2**0.5 * generator.standard_normal(size)
        return reward[:, None] - reward

    return _drawn(seeds, odds, size=size, tau=tau)


def _drawn(seeds: Sequence[int], odds: Callable[[np.random.Generator], np.ndarray], *, size: int, tau: float) -> Games:
    generators = [np.random.default_rng([seed, 0]) for seed in seeds]
    preferred = torch.from_numpy(np.stack([odds(one) for one in generators])).sigmoid()
    reference = torch.from_numpy(np.stack([one.standard_normal(size) for one in generators]))
    return Games(preferred=preferred, reference=reference.log_softmax(1), tau=tau)


def win_rates(games: Games, policy: Policies) -> Float64[Tensor, "games k"]:
    """P(y > policy) of every response."""
    return (games.preferred @ policy.exp()[:, :, None])[:, :, 0]


def wins(games: Games, policy: Policies, other: Policies) -> Float64[Tensor, " games"]:
    """How often the first policy's response is preferred to the second's."""
    return (policy.exp() * win_rates(games, other)).sum(1)


def worst_win_rate(games: Games, policy: Policies) -> Float64[Tensor, " games"]:
    """How often the policy is preferred to the response that beats it most often; 1/2 is the best there is.

    No KL counts here: the opponent may be anything.
    """
    return 1 - win_rates(games, policy).amax(1)


def duality_gap(games: Games, policy: Policies) -> Float64[Tensor, " games"]:
    """`2 max_p J(p, policy) - 1`; for tau > 0, `max_p J = tau log sum_y pi_ref e^(P(y > policy) / tau) + tau KL`."""
    won = win_rates(games, policy)
    if games.tau == 0:
        return 2 * won.amax(1) - 1
    best = games.tau * torch.logsumexp(games.reference + won / games.tau, 1)
    return 2 * (best + games.tau * kl(policy, games.reference)) - 1


def kl(policy: Policies, other: Policies) -> Float64[Tensor, " games"]:
    """KL(policy || other), nats; a response of probability 0 counts nothing."""
    chance = policy.exp()
    return torch.where(chance > 0, chance * (policy - other), 0).sum(1)


def mirror_step(games: Games, policy: Policies, *, eta: float) -> Policies:
    """The next policy of online mirror descent: `e^(P(y > pi) / eta) pi_ref^(tau / eta) pi^(1 - tau / eta)`."""
    share = games.tau / eta
    moved = win_rates(games, policy) / eta + share * games.reference + (1 - share) * policy
    return moved.log_softmax(1)


def best_response(games: Games, policy: Policies) -> Policies:
    """The response that is preferred to the policy most often, always."""
    best = win_rates(games, policy).argmax(1, keepdim=True)
    return torch.full_like(policy, -torch.inf).scatter(1, best, 0.0)


def iterate(step: Callable[[Policies], Policies], start: Policies, *, rounds: int) -> list[Policies]:
    """The start and what each round leads to."""
    policies = [start]
    for _ in range(rounds):
        policies.append(step(policies[-1]))
    return policies


def nash_policy(games: Games, *, tolerance: float = 1e-9, rounds: int = 20_000) -> Policies:
    """The Nash policies, by mirror descent whose steps shrink until the gaps are closed.

    Raises:
        RecipeError: tau is 0, or a gap stays above the tolerance.
    """
    if not games.tau > 0:
        raise RecipeError("without a KL the Nash policy may not be unique: tau must be positive")
    policy, eta = games.reference, 2 * games.tau
    for number in range(rounds):
        policy = mirror_step(games, policy, eta=eta)
        if number % 500 == 499:
            if float(duality_gap(games, policy).max()) < tolerance:
                return policy
            eta *= 1.5
    raise RecipeError(f"a Nash policy was not found in {rounds} rounds; raise tau")
