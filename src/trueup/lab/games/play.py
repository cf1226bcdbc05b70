"""Rounds of learning from one's own pairs, with the project's objectives."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trueup.lab.games.descent import Descent, Lesson, descend, learn
from trueup.lab.games.matrix import Games, Policies
from trueup.lab.games.pairs import Array, Selection, draw_pairs
from trueup.lab.games.responders import Table, now, whole
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.types import PolicyObjective, RewardBatch

_REWARD_RATE = 0.1
"""Of Adam, for tables of rewards."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A method of iterated preference learning.

    Args:
        term: Its loss.
        judge: Who chooses: the game's oracle, or a Bradley-Terry reward that was fitted once, to the oracle's choices
            among the reference's responses.
        selection: Which of a policy's responses become a pair.
    """

    term: PolicyObjective
    judge: Literal["oracle", "reward"] = "oracle"
    selection: Selection = "independent"


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How long a learner plays.

    Args:
        rounds: Rounds; each begins with new pairs of the policy as it is then.
        pairs: Pairs of a round. A reward is fitted to as many as all rounds together have.
        descent: How the policy learns from them; a reward is fitted in twice as many steps.
    """

    rounds: int = 10
    pairs: int = 2_000
    descent: Descent = field(default_factory=lambda: Descent(steps=150, learning_rate=0.1))


@dataclass(frozen=True, kw_only=True)
class Played:
    """What the rounds led to.

    Args:
        policies: The policies at the start and after each round.
        calls: What the oracle was asked in each game, all rounds together.
        dropped: Share of the tournaments that gave no pair.
    """

    policies: tuple[Policies, ...]
    calls: int
    dropped: float


def play(games: Games, learner: Learner, *, rounds: Rounds, seed: int, policy: nn.Module | None = None) -> Played:
    """Let policies learn from their own pairs, held to where they began.

    Args:
        games: What is played; their reference is the policies' start.
        learner: How.
        rounds: How long.
        seed: Of all draws.
        policy: The policies at their start, which learn in place; tables of the reference by default.
    """
    generator = np.random.default_rng([seed, 2])
    player = policy if policy is not None else Table(games.reference)
    reference, preferred = now(player), games.preferred.numpy()
    if learner.judge == "reward":
        seen, _, _ = _drawn(whole(reference), preferred, Learner(term=learner.term), generator=generator,
                            count=rounds.pairs * rounds.rounds)  # fmt: skip
        longer = replace(rounds.descent, steps=2 * rounds.descent.steps, learning_rate=_REWARD_RATE)
        preferred = bradley_terry(fit_reward(seen, how=longer))
    found, calls, dropped = [whole(reference)], 0, 0
    for _ in range(rounds.rounds):
        weight, asked, lost = _drawn(found[-1], preferred, learner, generator=generator, count=rounds.pairs)
        calls, dropped = calls + asked, dropped + lost
        learn(player, [Lesson(term=learner.term, weight=weight)], reference=reference, how=rounds.descent)
        found.append(whole(now(player)))
    if learner.judge == "reward":
        calls = rounds.pairs * rounds.rounds
    tried = rounds.pairs * rounds.rounds * len(preferred)
    return Played(policies=tuple(found), calls=calls, dropped=dropped / tried)


def _drawn(
    policy: Policies, preferred: Array, learner: Learner, *, count: int, generator: np.random.Generator
) -> tuple[Float64[Array, "games k k"], int, int]:
    """Pairs of every game, oracle calls in each and pairs dropped in all."""
    chances = np.asarray(policy.exp())
    drawn = [
        draw_pairs(one / one.sum(), oracle, selection=learner.selection, count=count, generator=generator)
        for one, oracle in zip(chances, preferred, strict=True)
    ]
    counts = np.stack([one.counts for one in drawn]).astype(np.float64)
    return counts, drawn[0].calls, sum(one.dropped for one in drawn)


def fit_reward(
    weight: Float64[Array, "games k k"], *, how: Descent, shrink: float = 1e-4
) -> Float64[Tensor, "games k"]:
    """Bradley-Terry rewards of all responses, mean 0.

    Args:
        weight: How often each row was preferred to each column.
        how: Steps and rate.
        shrink: Weight of the mean squared reward, so that what always won stays finite.
    """
    games, k, _ = weight.shape
    number, chosen, rejected = np.nonzero(weight)
    pairs = torch.from_numpy(np.stack([number * k + chosen, number * k + rejected], 1))
    share = torch.from_numpy((weight / weight.sum(axis=(1, 2), keepdims=True))[number, chosen, rejected])
    table = Table(torch.zeros(games, k, dtype=torch.float64))

    def loss(_: int) -> Tensor:
        values = BradleyTerry()(_reward_batch(table.logits, pairs), {}).values
        return (share * values).sum() + shrink * table.logits.square().mean(1).sum()

    descend(table, loss, how=how)
    fitted = table.logits.detach()
    return fitted - fitted.mean(1, keepdim=True)


def _reward_batch(reward: Float64[Tensor, "games k"], pairs: Tensor) -> RewardBatch:
    games, k = reward.shape
    return RewardBatch(
        reward=reward.flatten(),
        hidden=reward.new_zeros(games * k, 1),
        prompt=torch.arange(games).repeat_interleave(k),
        pairs=pairs,
        margin=reward.new_zeros(len(pairs)),
        order=torch.arange(len(pairs)),
        step_pairs=len(pairs),
        rank=torch.full((games * k,), -1),
    )


def bradley_terry(reward: Float64[Tensor, "games k"]) -> Float64[Array, "games k k"]:
    """How often each row is preferred to each column if a reward decides."""
    return np.asarray((reward[:, :, None] - reward[:, None, :]).sigmoid())
