"""Which prompts each rollout asks, and which of its rows each step learns from: functions of seed and number alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueup.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How drawing and learning alternate.

    Args:
        prompts: Prompts of one rollout, over all devices.
        samples: Replies to each.
        passes: How often a rollout is learned from.
        minibatches: Optimiser steps of each pass, which share the prompts.
    """

    prompts: int = 32
    samples: int = 4
    passes: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        for name in ("prompts", "samples", "passes", "minibatches"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prompts % self.minibatches:
            raise RecipeError(f"{self.prompts} prompts cannot be shared evenly by {self.minibatches} minibatches")

    @property
    def steps(self) -> int:
        """Optimiser steps of one rollout."""
        return self.passes * self.minibatches


def prompts_of(rollout: int, *, total: int, rhythm: Rhythm, seed: int) -> list[int]:
    """Numbers of the prompts of a rollout: shuffled passes over all of them, none twice in one rollout.

    Raises:
        RecipeError: There are fewer prompts than one rollout asks.
    """
    each = total // rhythm.prompts
    if not each:
        raise RecipeError(
            f"{total} different prompts are fewer than the {rhythm.prompts} of one rollout; give more, or ask fewer"
        )
    epoch, place = divmod(rollout, each)
    order = np.random.default_rng([seed, epoch]).permutation(total)
    chosen: list[int] = order[place * rhythm.prompts : (place + 1) * rhythm.prompts].tolist()
    return chosen


def minibatch(rows: Sequence[int], *, step: int, rhythm: Rhythm, seed: int) -> list[int]:
    """Which of a rollout's rows an optimiser step learns from; every pass has an order of its own.

    Args:
        rows: What there is to share.
        step: Number of the optimiser step, from the start of the run.
        rhythm: How drawing and learning alternate.
        seed: Seed of the order.
    """
    if rhythm.minibatches == 1:
        return list(rows)
    rollout, within = divmod(step, rhythm.steps)
    turn, part = divmod(within, rhythm.minibatches)
    order = np.random.default_rng([seed, rollout, turn]).permutation(np.asarray(rows))
    return [int(row) for row in np.array_split(order, rhythm.minibatches)[part]]
