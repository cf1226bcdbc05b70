"""Exact optimisation of a proxy under a penalty, over a sweep of coefficients.

The objective `J(pi, proxy) - c D(pi, reference)` is maximised over the policy's logits by Adam with exact gradients
(the occupancy is a linear solve). It is not concave in the logits, and hacking is a separate hill: every coefficient is
optimised from the reference and from the uniform policy, and the better objective is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.divergences.occupancy import (
    action_chi2,
    action_kl,
    action_sqrt_chi2,
    chi2,
    kl,
    normalized_return,
    sqrt_chi2,
    total_variation,
)
from trueup.lab.tabular.mdp import Problem


@dataclass(frozen=True, kw_only=True)
class Visits:
    """What a penalty compares.

    Args:
        policy: Action probabilities of the policies.
        mu: Their occupancies.
        reference: Action probabilities of the reference.
        mu_reference: Its occupancy.
    """

    policy: Float[Tensor, "*b s a"]
    mu: Float[Tensor, "*b s a"]
    reference: Float[Tensor, "s a"]
    mu_reference: Float[Tensor, "s a"]

    @property
    def states(self) -> Float[Tensor, "*b s"]:
        """State occupancies of the policies."""
        return self.mu.sum(-1)


Penalty = Callable[[Visits], Float[Tensor, "*b"]]

PENALTIES: Mapping[str, Penalty] = {
    "OM sqrt-chi2": lambda v: sqrt_chi2(v.mu, v.mu_reference),
    "OM chi2": lambda v: chi2(v.mu, v.mu_reference),
    "OM KL": lambda v: kl(v.mu, v.mu_reference),
    "OM TV": lambda v: total_variation(v.mu, v.mu_reference),
    "AD sqrt-chi2": lambda v: action_sqrt_chi2(v.policy, v.reference, states=v.states),
    "AD chi2": lambda v: action_chi2(v.policy, v.reference, states=v.states),
    "AD KL": lambda v: action_kl(v.policy, v.reference, states=v.states),
}
"""By name: OM compares occupancy measures, AD the distributions of actions in the states that the policy visits."""


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How objectives are maximised.

    Args:
        steps: Steps of Adam.
        learning_rate: At the first step; it falls to a hundredth, in a cosine.
        noise: Standard deviation of what is added to the first logits.
        seed: Of that noise.
    """

    steps: int = 1500
    learning_rate: float = 0.1
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What one penalty gave, by coefficient.

    Args:
        coefficient: Weight of the penalty, in units of the proxy.
        policy: The policies that were kept.
        objective: Their objectives.
        true: Their normalised returns of the true reward.
        proxy: Their normalised returns of the proxy.
        chi2: Chi-squared of their occupancies from the reference's.
        started: Which start won: 0 the reference, 1 the uniform policy.
    """

    coefficient: Float[Tensor, " c"]
    policy: Float[Tensor, "c s a"]
    objective: Float[Tensor, " c"]
    true: Float[Tensor, " c"]
    proxy: Float[Tensor, " c"]
    chi2: Float[Tensor, " c"]
    started: Int[Tensor, " c"]

    @property
    def best(self) -> float:
        """The highest true return of any coefficient."""
        return float(self.true.max())


def optimize(problem: Problem, penalty: str, *, coefficients: Sequence[float], ascent: Ascent | None = None) -> Sweep:
    """Maximise the penalised proxy at every coefficient; all of them are one batch of independent problems.

    Args:
        problem: The decision process and its reference.
        penalty: One of `PENALTIES`.
        coefficients: Weights of the penalty, at least 0.
        ascent: How to maximise.

    Raises:
        ValueError: No such penalty, no coefficient or a negative one.
    """
    if penalty not in PENALTIES:
        raise ValueError(f"there is no penalty {penalty!r}; known: {', '.join(PENALTIES)}")
    if not coefficients or min(coefficients) < 0:
        raise ValueError(f"coefficients must be at least 0, and one or more, got {list(coefficients)}")
    weight = torch.tensor(coefficients, dtype=problem.reference.dtype)
    logits = _starts(problem, len(coefficients), ascent or Ascent())
    _climb(problem, PENALTIES[penalty], weight, logits=logits, ascent=ascent or Ascent())
    with torch.no_grad():
        return _kept(problem, PENALTIES[penalty], weight, logits=logits)


def _starts(problem: Problem, count: int, ascent: Ascent) -> Float[Tensor, "2 c s a"]:
    """Logits of the reference and of the uniform policy, for every coefficient."""
    both = torch.stack([problem.reference.log(), torch.zeros_like(problem.reference)])
    noise = torch.randn(both.shape, generator=torch.Generator().manual_seed(ascent.seed), dtype=both.dtype)
    return (both + ascent.noise * noise)[:, None].repeat(1, count, 1, 1).requires_grad_()


def visits(problem: Problem, policy: Float[Tensor, "*b s a"]) -> Visits:
    """The policies beside the reference."""
    return Visits(
        policy=policy,
        mu=problem.mdp.occupancy(policy),
        reference=problem.reference,
        mu_reference=problem.mdp.occupancy(problem.reference),
    )


def _objective(problem: Problem, penalty: Penalty, weight: Float[Tensor, " c"], *, seen: Visits) -> Tensor:
    proxy = normalized_return(seen.mu, problem.mdp.proxy)
    return torch.where(weight > 0, proxy - weight * penalty(seen), proxy)


def _climb(
    problem: Problem, penalty: Penalty, weight: Float[Tensor, " c"], *, logits: Float[Tensor, "2 c s a"], ascent: Ascent
) -> None:
    """Change the logits in place; problems do not see each other, as Adam works entry by entry."""
    optimizer = torch.optim.Adam([logits], lr=ascent.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ascent.steps, eta_min=ascent.learning_rate / 100)
    for _ in range(ascent.steps):
        optimizer.zero_grad()
        loss = -_objective(problem, penalty, weight, seen=visits(problem, logits.softmax(-1))).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _kept(
    problem: Problem, penalty: Penalty, weight: Float[Tensor, " c"], *, logits: Float[Tensor, "2 c s a"]
) -> Sweep:
    """The better of the two starts at every coefficient."""
    policies = logits.detach().softmax(-1)
    objective, started = _objective(problem, penalty, weight, seen=visits(problem, policies)).max(0)
    policy = policies[started, torch.arange(len(weight))]
    seen = visits(problem, policy)
    return Sweep(
        coefficient=weight,
        policy=policy,
        objective=objective,
        true=normalized_return(seen.mu, problem.mdp.true),
        proxy=normalized_return(seen.mu, problem.mdp.proxy),
        chi2=chi2(seen.mu, seen.mu_reference),
        started=started,
    )
