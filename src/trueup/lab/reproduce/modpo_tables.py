"""Fronts of two rewards in small worlds, at equal KL: MODPO, mixtures of losses, soups and what is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from trueup.lab.games.descent import Descent
from trueup.lab.games.matrix import Policies
from trueup.lab.games.pairs import expected_pairs
from trueup.lab.games.play import bradley_terry
from trueup.lab.games.responders import now, whole
from trueup.lab.games.two_rewards import (
    TwoRewards,
    TwoRewardsPlan,
    at_distance,
    earned,
    implied,
    optimum,
    soup_of,
    train_dpo,
    train_mixture,
    train_modpo,
    two_rewards,
)
from trueup.lab.reproduce.scale import Scale
from trueup.measure.pareto import hypervolume

Array = np.ndarray

OPTIMUM, LEARNED = "closed form, true rewards", "closed form, learned rewards"
MODPO_ARM, SWAPPED, EXACT_MARGIN = "MODPO", "MODPO on the second reward's pairs", "MODPO, exact margin"
MIXTURE, SOUP = "mixture of losses", "soup of DPO policies"
ARMS = (OPTIMUM, LEARNED, MODPO_ARM, SWAPPED, EXACT_MARGIN, MIXTURE, SOUP)
WEIGHTS = tuple(round(0.05 * step, 2) for step in range(1, 20))
NATS = (0.25, 0.5, 1.0)
FEW, MANY = 200, 2_000
WORLDS_PER_SEED = 4


@dataclass(frozen=True, kw_only=True)
class Front:
    """One method at one KL; both ends, the policies of one reward alone, are those of the method's own learning.

    Args:
        points: Both mean rewards, by weight, above the reference's.
        volume: Area under the front, as a share of the closed form's.
        shortfall: How much of `w r_1 + (1 - w) r_2` is missing beside the closed form, by weight.
    """

    points: Float[Array, "worlds weights 2"]
    volume: Float[Array, " worlds"]
    shortfall: Float[Array, "worlds weights"]


@dataclass(frozen=True, kw_only=True)
class TableRuns:
    """What the small worlds gave.

    Args:
        weights: Weights of the first reward.
        difference: Largest difference of a probability between MODPO on exact frequencies of either reward's
            preferences and the closed form, over all weights.
        fronts: By number of pairs, method and KL.
    """

    weights: tuple[float, ...]
    difference: Float[Array, " worlds"]
    fronts: Mapping[int, Mapping[str, Mapping[float, Front]]]

    def mean(self, pairs: int, arm: str, what: str) -> Float[Array, "..."]:
        """A front's `volume` or `shortfall`, mean over KLs."""
        return np.mean([getattr(front, what) for front in self.fronts[pairs][arm].values()], axis=0)


def run_tables(scale: Scale) -> TableRuns:
    """Learn everything; seconds for each method."""
    numbers = [WORLDS_PER_SEED * seed + place for seed in scale.seeds for place in range(WORLDS_PER_SEED)]
    weights = WEIGHTS if scale.policy_steps >= 30 else WEIGHTS[4::5]
    how = Descent(steps=4 * scale.policy_steps, learning_rate=0.1)
    plan = TwoRewardsPlan(descent=how)
    return TableRuns(
        weights=weights,
        difference=_differences(two_rewards(plan, numbers), how),
        fronts={pairs: _fronts(two_rewards(replace(plan, pairs=pairs), numbers), weights, how)
                for pairs in (FEW, MANY)},
    )  # fmt: skip


def _differences(worlds: TwoRewards, how: Descent) -> Float[Array, " worlds"]:
    """With all pairs at their exact frequencies and the exact other reward, for each reward's preferences."""
    chances = np.asarray(worlds.reference.exp())
    exact = replace(worlds, pairs=np.stack([expected_pairs(chances, bradley_terry(one)) for one in worlds.rewards]))
    longer = replace(how, steps=1_200 if how.steps >= 100 else how.steps)
    found = []
    for weight in (0.1, 0.5, 0.9):
        asked = optimum(worlds, weight).exp()
        for which in (0, 1):
            policy = train_modpo(exact, weight, margin=worlds.rewards[1 - which], how=longer, which=which)
            found.append((whole(now(policy)).exp() - asked).abs().amax(1))
    return np.asarray(torch.stack(found).amax(0))


def _fronts(worlds: TwoRewards, weights: Sequence[float], how: Descent) -> dict[str, dict[float, Front]]:
    policies = _policies(worlds, weights, how)
    asked = {nats: _points(worlds, policies[OPTIMUM], nats) for nats in NATS}
    return {
        arm: {nats: _front(_points(worlds, found, nats), asked[nats], weights) for nats in NATS}
        for arm, found in policies.items()
    }


def _policies(worlds: TwoRewards, weights: Sequence[float], how: Descent) -> dict[str, list[Policies]]:
    """By method: with weight 0, with each weight, and with weight 1."""
    alone = [train_dpo(worlds, which, how=how) for which in (0, 1)]
    rewards = torch.stack([implied(worlds, policy) for policy in alone])
    first, second = (whole(now(policy)) for policy in alone)
    arms: dict[str, Callable[[float], Policies]] = {
        LEARNED: lambda weight: optimum(worlds, weight, rewards=rewards),
        MODPO_ARM: lambda weight: whole(now(train_modpo(worlds, weight, margin=rewards[1], how=how))),
        SWAPPED: lambda weight: whole(now(train_modpo(worlds, weight, margin=rewards[0], how=how, which=1))),
        EXACT_MARGIN: lambda weight: whole(now(train_modpo(worlds, weight, margin=worlds.rewards[1], how=how))),
        MIXTURE: lambda weight: whole(now(train_mixture(worlds, weight, how=how))),
        SOUP: lambda weight: whole(now(soup_of(worlds, alone, weight))),
    }
    asked = [optimum(worlds, weight) for weight in (0.0, *weights, 1.0)]
    return {OPTIMUM: asked} | {arm: [second, *map(make, weights), first] for arm, make in arms.items()}


def _points(worlds: TwoRewards, policies: Sequence[Policies], nats: float) -> Float[Array, "worlds points 2"]:
    start = earned(worlds, worlds.reference)
    return np.stack([earned(worlds, at_distance(worlds, policy, nats)) - start for policy in policies], axis=1)


def _front(
    points: Float[Array, "worlds points 2"], asked: Float[Array, "worlds points 2"], weights: Sequence[float]
) -> Front:
    worst = np.stack([asked[:, 0, 0], asked[:, -1, 1]], axis=1)
    volume = [hypervolume(one, corner) / hypervolume(best, corner)
              for one, best, corner in zip(points, asked, worst, strict=True)]  # fmt: skip
    scale = np.array([[weight, 1 - weight] for weight in weights])
    shortfall = ((asked - points)[:, 1:-1] * scale).sum(axis=2)
    return Front(points=points, volume=np.array(volume), shortfall=shortfall)
