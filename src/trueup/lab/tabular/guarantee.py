"""Whether the theorem's bounds hold, for given policies and for random decision processes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.divergences.occupancy import (
    chi2,
    improvement_bound,
    normalized_return,
    tight_improvement_bound,
)
from trueup.lab.tabular.mdp import Mdp, Problem

_ROUNDING = 1e-7


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How far true returns stood above the bounds.

    Args:
        cases: Policies that were compared with the bounds; the proxy correlates positively with the true reward.
        violations: Those below a bound by more than rounding.
        theorem: Smallest distance above the theorem's bound, standard deviations of the true reward.
        tight: Smallest distance above the tighter bound.
    """

    cases: int
    violations: int
    theorem: float
    tight: float

    def __add__(self, other: "Checked") -> "Checked":
        return Checked(
            cases=self.cases + other.cases,
            violations=self.violations + other.violations,
            theorem=min(self.theorem, other.theorem),
            tight=min(self.tight, other.tight),
        )


NOTHING = Checked(cases=0, violations=0, theorem=float("inf"), tight=float("inf"))


def check_bounds(problem: Problem, policy: Float[Tensor, "b s a"]) -> Checked:
    """Compare policies with what the reference's correlation guarantees; nothing where it is not positive."""
    mdp, quality = problem.mdp, problem.quality
    if not quality.correlation > 0:
        return NOTHING
    mu, usual = mdp.occupancy(policy), mdp.occupancy(problem.reference)
    gain = normalized_return(mu - usual, mdp.proxy) / quality.sigma_proxy
    truly = normalized_return(mu - usual, mdp.true) / quality.sigma_true
    distance = chi2(mu, usual)
    above = [
        truly - bound(gain, distance, correlation=quality.correlation)
        for bound in (improvement_bound, tight_improvement_bound)
    ]
    rounding = -_ROUNDING * (1 + distance.sqrt())
    return Checked(
        cases=len(policy),
        violations=int(((above[0] < rounding) | (above[1] < rounding)).sum()),
        theorem=float(above[0].min()),
        tight=float(above[1].min()),
    )


def random_problem(generator: torch.Generator) -> Problem:
    """Random transitions, rewards and reference over 2 to 6 states and 2 to 4 actions; the proxy's r is positive."""
    states, actions = (int(torch.randint(2, high, (), generator=generator)) for high in (7, 5))
    true, noise = torch.randn(2, states, actions, generator=generator, dtype=torch.float64)
    share = torch.rand((), generator=generator, dtype=torch.float64)
    mdp = Mdp(
        transition=random_policies(generator, states * actions, states).reshape(states, actions, states),
        start=random_policies(generator, states),
        gamma=float(torch.rand((), generator=generator)) * 0.95,
        true=true,
        proxy=share * true + (1 - share) * noise,
    )
    problem = Problem(mdp=mdp, reference=random_policies(generator, states, actions))
    if problem.quality.correlation > 0:
        return problem
    flipped = Mdp(transition=mdp.transition, start=mdp.start, gamma=mdp.gamma, true=true, proxy=-mdp.proxy)
    return Problem(mdp=flipped, reference=problem.reference)


def random_policies(generator: torch.Generator, *shape: int) -> Float[Tensor, "..."]:
    """Random distributions over the last dimension, from nearly uniform to nearly certain."""
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.softmax(3 * torch.rand((), generator=generator, dtype=torch.float64) * logits, -1)


def check_random(problems: int, *, policies: int, seed: int) -> Checked:
    """Check the bounds on random processes, with as many random policies in each."""
    generator, found = torch.Generator().manual_seed(seed), NOTHING
    for _ in range(problems):
        problem = random_problem(generator)
        found += check_bounds(problem, random_policies(generator, policies, *problem.mdp.shape))
    return found
