"""How much the members of an ensemble disagree about what a policy says along its run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trueup.data.rows import Prompt
from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.policy_arms import weights_at
from trueup.rewards.base import Reward


@dataclass(frozen=True)
class Spread:
    """Variance between members of rewards of a policy's responses, over that of the start's responses.

    Args:
        at_kl: At the KL at which arms are compared; NaN where the run does not get there.
        at_end: After the last step that all arms reach.
    """

    at_kl: float
    at_end: float


@dataclass(frozen=True, kw_only=True)
class Moments:
    """When a run is looked at.

    Args:
        kl: Nats; 0 for none.
        step: Optimiser steps.
    """

    kl: float
    step: int

    def needed(self, looks: Looks) -> list[int]:
        """The start, the looks on both sides of the KL, and that of the step."""
        near = np.flatnonzero(np.nan_to_num(self._weights(looks)))
        return sorted({0, *near.tolist(), self._end(looks)})

    def read(self, looks: Looks, variance: Mapping[int, float]) -> Spread:
        """What these looks' variances say, each the mean over responses."""
        weights = self._weights(looks)
        kept = [(float(weight), place) for place, weight in enumerate(weights) if weight != 0]
        at_kl = sum(weight * variance[place] for weight, place in kept) if np.isfinite(weights).all() else np.nan
        return Spread(at_kl=at_kl / variance[0], at_end=variance[self._end(looks)] / variance[0])

    def _weights(self, looks: Looks) -> np.ndarray:
        return weights_at(looks, self.kl) if self.kl > 0 else np.full(len(looks.step), np.nan)

    def _end(self, looks: Looks) -> int:
        return int(np.flatnonzero(looks.step == self.step)[0])


def spread_along(looks: Looks, *, moments: Moments, reward: Reward, prompts: Sequence[Prompt]) -> Spread:
    """Score what a policy said to watched prompts with every member.

    Args:
        looks: Its run.
        moments: When.
        reward: The ensemble.
        prompts: The watched prompts.
    """
    variance = {}
    for place in moments.needed(looks):
        members = reward.score(prompts, looks.texts[place]).members
        if members is None:
            raise TypeError(f"{reward.name} has no members")
        variance[place] = float(members.var(axis=0).mean())
    return moments.read(looks, variance)
