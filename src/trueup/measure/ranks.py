"""Mid-ranks and Spearman's correlation, within prompts and with counts of resampled prompts."""

import numpy as np
from jaxtyping import Float, Int

from trueup.measure.bootstrap import divide, sum_by
from trueup.measure.scored import Array


def ranks_within(values: Float[Array, " rows"], group: Int[Array, " rows"]) -> Float[Array, " rows"]:
    """Mid-ranks (from 1, ties share their mean rank) of the values inside each group."""
    if not len(values):
        return np.zeros(0)
    order = np.lexsort((values, group))
    sorted_values, sorted_group = values[order], group[order]
    new_group = np.r_[True, np.diff(sorted_group) != 0]
    new_run = new_group | np.r_[True, np.diff(sorted_values) != 0]
    run = np.cumsum(new_run) - 1
    starts = np.flatnonzero(new_run)
    ends = np.r_[starts[1:], len(values)]
    first_of_group = np.maximum.accumulate(np.where(new_group, np.arange(len(values)), 0))
    out = np.empty(len(values))
    out[order] = ((starts + ends + 1) / 2)[run] - first_of_group
    return out


def spearman_within(
    a: Float[Array, " rows"], b: Float[Array, " rows"], group: Int[Array, " rows"]
) -> Float[Array, " groups"]:
    """Spearman's correlation of a and b inside each group; NaN where either is constant."""
    groups = int(group.max()) + 1 if len(group) else 0
    x, y = ranks_within(a, group), ranks_within(b, group)
    sizes = np.bincount(group, minlength=groups)
    middle = ((sizes + 1) / 2)[group]
    x, y = x - middle, y - middle
    sums = sum_by(np.stack([x * y, x * x, y * y], axis=1), group, groups)
    return np.clip(divide(sums[:, 0], np.sqrt(sums[:, 1] * sums[:, 2])), -1.0, 1.0)


def weighted_spearman(
    a: Float[Array, " rows"], b: Float[Array, " rows"], weights: Float[Array, "resamples rows"]
) -> Float[Array, " resamples"]:
    """Spearman's correlation of a sample in which each row occurs `weights` times, for each row of weights.

    Ranks are those of the resample itself, not of the full data: a value's mid-rank is the weight below it
    plus half of (its own weight + 1).
    """
    runs_a, runs_b = (np.unique(values, return_inverse=True)[1] for values in (a, b))
    return np.array([_one_spearman(runs_a, runs_b, row) for row in weights])


def _one_spearman(runs_a: Int[Array, " rows"], runs_b: Int[Array, " rows"], weight: Float[Array, " rows"]) -> float:
    total = weight.sum()
    x, y = (_mid_ranks(runs, weight) - (total + 1) / 2 for runs in (runs_a, runs_b))
    weighted_x = weight * x
    spread = np.sqrt((weighted_x @ x) * (weight @ (y * y)))
    return float(np.clip((weighted_x @ y) / spread, -1.0, 1.0)) if spread > 0 else float("nan")


def _mid_ranks(runs: Int[Array, " rows"], weight: Float[Array, " rows"]) -> Float[Array, " rows"]:
    inside = np.bincount(runs, weights=weight)
    return (np.cumsum(inside) - inside + (inside + 1) / 2)[runs]
