"""Drawing rows in proportion to what there is to learn from them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from trueup.errors import DataError


def priority_rows(priorities: Sequence[float], *, step: int, count: int, seed: int) -> list[int]:
    """Numbers of the rows of an optimiser step, drawn with replacement in proportion to their priorities.

    A function of seed and step alone, the same on every device. Rows whose priority is not positive are never drawn.

    Args:
        priorities: One a row: the advantage of its response, or its reward.
        step: Number of the step, from the start of the run.
        count: Rows of the step.
        seed: Seed of the drawing.

    Raises:
        DataError: A priority is not finite, or none is positive.
    """
    rows, shares = _shares(priorities)
    chosen: list[int] = np.random.default_rng([seed, step]).choice(rows, size=count, p=shares).tolist()
    return chosen


class PrioritySampler(Sampler[int]):
    """Rows drawn with replacement in proportion to their priorities; `priority_rows` of the steps, one after another.

    An epoch has as many draws as there are rows with a positive priority, so that a run over some epochs is shorter by
    the share of the others. Weighted by A+ in the loss as well, a row counts in proportion to its square.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718), priority sampling.
    **Deviations**: none; the authors' sampler, too, draws with replacement in effect.

    Args:
        priorities: One a row: the advantage of its response (where a row has several, their positive parts summed),
            or its reward.
        step_rows: Rows of one optimiser step.
        seed: Seed of the drawing.

    Raises:
        DataError: A priority is not finite, or none is positive.
    """

    def __init__(self, priorities: Sequence[float], *, step_rows: int, seed: int) -> None:
        self.rows, self.shares = _shares(priorities)
        self.step_rows, self.seed, self.epoch = step_rows, seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch; the last may be smaller."""
        return math.ceil(len(self) / self.step_rows)

    def __iter__(self) -> Iterator[int]:
        for number in range(self.steps):
            step = self.epoch * self.steps + number
            drawn = np.random.default_rng([self.seed, step]).choice(self.rows, size=self.step_rows, p=self.shares)
            yield from drawn[: len(self) - number * self.step_rows].tolist()
        self.epoch += 1

    def set_epoch(self, epoch: int) -> None:
        """Go to the order of an epoch; a resumed run does."""
        self.epoch = epoch


def _shares(priorities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a positive priority, and each one's share of all priority."""
    known = np.asarray(priorities, np.float64)
    wrong = np.flatnonzero(~np.isfinite(known))
    if len(wrong):
        raise DataError(f"row {wrong[0] + 1} has priority {known[wrong[0]]}", expected="finite advantages or rewards")
    rows = np.flatnonzero(known > 0)
    if not len(rows):
        best = f"; the largest is {known.max():g}" if len(known) else ""
        raise DataError(
            f"none of {len(known)} rows has a positive advantage or reward{best}",
            expected="responses that are better than the reference's own, on average",
            cure="check the values that were subtracted, or take better responses",
        )
    shares = known[rows] / known[rows].max()  # so that the sum cannot overflow
    return rows, shares / shares.sum()
