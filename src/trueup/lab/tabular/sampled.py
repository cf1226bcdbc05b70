"""Occupancy regularisation as it is practised: a discriminator on samples, penalised rewards, policy-gradient steps.

Each round draws visits of the policies and of the reference, trains the discriminators for a few steps, takes the
penalty off the proxy step by step, and follows the policy gradient of those rewards. The gradient itself is exact, so
that what differs from `regularized.optimize` is the estimate of the ratio alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.divergences.occupancy import normalized_return
from trueup.functional.penalties import PenaltyKind, penalize
from trueup.lab.tabular.discriminator import Discriminator, frequencies
from trueup.lab.tabular.mdp import Problem


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How long, and on how many samples.

    Args:
        rounds: Rounds of drawing, discriminating and one step of the policy.
        learning_rate: Of the policy's Adam; it falls to a hundredth, in a cosine.
        samples: Visits drawn from each policy, and from the reference, in a round.
        discriminator_steps: Gradient steps of the discriminators in a round.
        discriminator_rate: Of their Adam.
        seed: Of the samples.
    """

    rounds: int = 600
    learning_rate: float = 0.1
    samples: int = 1000
    discriminator_steps: int = 5
    discriminator_rate: float = 0.1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What the rounds led to, by coefficient.

    Args:
        true: Normalised returns of the true reward.
        proxy: Normalised returns of the proxy.
        clipped: Share of the last round's penalties that were clipped.
    """

    true: Float[Tensor, " c"]
    proxy: Float[Tensor, " c"]
    clipped: tuple[float, ...]


def optimize_sampled(
    problem: Problem, kind: PenaltyKind, *, coefficients: Sequence[float], rounds: Rounds | None = None
) -> Sampled:
    """Regularise with an estimated ratio, starting at the reference; arguments as of `regularized.optimize`."""
    rounds = rounds or Rounds()
    generator = torch.Generator().manual_seed(rounds.seed)
    logits = problem.reference.log()[None].repeat(len(coefficients), 1, 1).requires_grad_()
    judge = Discriminator(torch.zeros_like(logits), rounds.discriminator_rate)
    optimizer = torch.optim.Adam([logits], lr=rounds.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds.rounds, eta_min=rounds.learning_rate / 100)
    usual, clipped = problem.mdp.occupancy(problem.reference), [0.0] * len(coefficients)
    for _ in range(rounds.rounds):
        mu = problem.mdp.occupancy(logits.softmax(-1))
        seen = frequencies(mu, rounds.samples, generator=generator)
        usually = frequencies(usual, rounds.samples, generator=generator)
        judge.learn(seen, usually.expand_as(seen), steps=rounds.discriminator_steps)
        reward, clipped = _rewards(problem, kind, coefficients, logit=judge.logit.detach(), seen=seen)
        optimizer.zero_grad()
        (-(mu * reward).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        mu = problem.mdp.occupancy(logits.softmax(-1))
        true, proxy = (normalized_return(mu, reward) for reward in (problem.mdp.true, problem.mdp.proxy))
    return Sampled(true=true, proxy=proxy, clipped=tuple(clipped))


def _rewards(
    problem: Problem,
    kind: PenaltyKind,
    coefficients: Sequence[float],
    *,
    logit: Float[Tensor, "c s a"],
    seen: Float[Tensor, "c s a"],
) -> tuple[Float[Tensor, "c s a"], list[float]]:
    """Penalised rewards of every pair, and the share of the sampled penalties that were clipped."""
    found = [
        penalize(problem.mdp.proxy.flatten(), one.flatten(), kind=kind, coefficient=c, weight=often.flatten())
        for c, one, often in zip(coefficients, logit, seen, strict=True)
    ]
    return torch.stack([each.reward for each in found]).reshape(logit.shape), [each.clipped for each in found]
