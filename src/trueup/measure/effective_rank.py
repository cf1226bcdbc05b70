"""Effective rank: how many directions hidden states use."""

import numpy as np
from jaxtyping import Float
from scipy import stats

from trueup.measure.scored import Array, Estimate

_BLOCK = 4096


def effective_rank(
    hidden: Float[Array, "rows d"], *, level: float = 0.95, max_rows: int = 8192, groups: int = 10
) -> Estimate:
    """Exponential of the entropy of the normalised singular values.

    `erank(Z) = exp(-sum_k p_k log p_k)`, `p_k = sigma_k / sum sigma`; k for k equal singular values, 1 for
    rank one. Z is not centred. Singular values come from the Gram matrix in float64, where those below about
    1e-7 of the largest are rounding and count as zero. The interval is a jackknife over `groups` blocks of
    consecutive rows (resampling rows would repeat them, and repeated rows lower the rank); it is NaN above
    512 dimensions, where it would cost more than it tells.

    **Source** Roy and Vetterli (2007), The Effective Rank; as used by Hong, Lee et al. (2025), arXiv
    2505.07271.

    Args:
        hidden: One row for each response.
        level: Coverage of the interval.
        max_rows: Above this many rows, that many evenly spaced ones are used.
        groups: Blocks of the jackknife.
    """
    if len(hidden) > max_rows:
        hidden = hidden[np.linspace(0, len(hidden) - 1, max_rows).astype(np.int64)]
    rows, width = hidden.shape
    grams = [_gram(block, tall=rows >= width) for block in _blocks(hidden, groups, tall=rows >= width)]
    value = _entropy_rank(np.sum(grams, axis=0)) if rows >= width else _entropy_rank(_gram(hidden, tall=False))
    if rows < width or width > 512 or len(grams) < groups:
        return Estimate(value, np.nan, np.nan, rows)
    total = np.sum(grams, axis=0)
    left_out = np.array([_entropy_rank(total - gram) for gram in grams])
    error = np.sqrt((groups - 1) / groups * np.sum((left_out - left_out.mean()) ** 2))
    half = float(stats.t.ppf((1 + level) / 2, groups - 1) * error)
    return Estimate(value, max(1.0, value - half), min(float(width), value + half), rows)


def _blocks(hidden: Float[Array, "rows d"], groups: int, *, tall: bool) -> list[Float[Array, "some d"]]:
    if not tall or len(hidden) < 2 * groups:
        return [hidden]
    return np.array_split(hidden, groups)


def _gram(hidden: Float[Array, "rows d"], *, tall: bool) -> Float[Array, "m m"]:
    if not tall:
        wide = hidden.astype(np.float64)
        return wide @ wide.T
    total = np.zeros((hidden.shape[1], hidden.shape[1]))
    for start in range(0, len(hidden), _BLOCK):
        block = hidden[start : start + _BLOCK].astype(np.float64)
        total += block.T @ block
    return total


def _entropy_rank(gram: Float[Array, "m m"]) -> float:
    squares = np.linalg.eigvalsh(gram)
    squares = squares[squares > squares[-1] * len(squares) * np.finfo(np.float64).eps]
    if not len(squares) or squares[-1] <= 0:
        return float("nan")
    p = np.sqrt(squares) / np.sqrt(squares).sum()
    return float(np.exp(-np.sum(p * np.log(p))))
