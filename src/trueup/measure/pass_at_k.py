"""How probable it is that at least one of k samples solves a problem.

Of n samples, of which c are correct, the share of k-subsets that hold a correct one,

    pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{j < k} (1 - c / (n - j))

is unbiased; `1 - (1 - c / n)^k` is not.

**Source** Chen et al. (2021), Evaluating Large Language Models Trained on Code, arXiv 2107.03374, equation 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling, bootstrap, proportions
from trueup.measure.scored import Array, Estimate

Ks = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class PassAtK:
    """pass@k of one policy.

    Args:
        k: Numbers of samples, ascending.
        rate: Mean over problems, with its interval over problems, for each k.
        by_problem: pass@k of each problem.
    """

    k: Int[Array, " ks"]
    rate: tuple[Estimate, ...]
    by_problem: Float[Array, "problems ks"]


@dataclass(frozen=True, kw_only=True)
class BestTemperature:
    """pass@k at the temperature that other problems say is best.

    Args:
        k: Numbers of samples, ascending.
        rate: Mean over problems, each at the temperature chosen on the half that it is not in. Intervals choose anew
            in each resample.
        chosen: The temperature chosen on each half, for each k; the first of equals.
        by_temperature: pass@k at each temperature, for all problems. Its highest value is biased upwards.
    """

    k: Int[Array, " ks"]
    rate: tuple[Estimate, ...]
    chosen: Float[Array, "2 ks"]
    by_temperature: tuple[PassAtK, ...]


def pass_at_k(
    correct: Int[Array, " problems"], samples: int | Int[Array, " problems"], ks: Ks
) -> Float[Array, "problems ks"]:
    """Unbiased pass@k of each problem.

    Example: of 5 samples 2 are correct; of the 10 pairs, 3 hold none.

    >>> pass_at_k(np.array([2]), 5, [1, 2, 4]).round(6).tolist()
    [[0.4, 0.7, 1.0]]

    Args:
        correct: c, correct samples of each problem.
        samples: n, samples of each problem; one number for all, or one for each.
        ks: Values of k, each from 1 to the smallest n.

    Raises:
        DataError: A count is impossible.
        RecipeError: A k is below 1 or above n.
    """
    drawn = np.broadcast_to(np.asarray(samples, np.int64), correct.shape)
    k = _checked(correct, drawn, ks)
    cases, place = np.unique(np.stack([correct, drawn], axis=1), axis=0, return_inverse=True)
    c, n = cases[:, :1], cases[:, 1:]
    hit = np.minimum(1.0, c / (n - np.arange(k.max())))
    with np.errstate(divide="ignore"):  # log 0 where every further subset holds a correct sample
        log_miss = np.cumsum(np.log1p(-hit), axis=1)
    return -np.expm1(log_miss[:, k - 1])[place.reshape(-1)] + 0.0


def mean_pass_at_k(
    correct: Int[Array, " problems"], samples: int | Int[Array, " problems"], *, ks: Ks, resampling: Resampling
) -> PassAtK:
    """Mean pass@k with intervals by resampling problems, for many k at once.

    Arguments and errors are those of `pass_at_k`.
    """
    sizes = np.unique(np.asarray(ks, np.int64))
    values = pass_at_k(correct, samples, sizes.tolist())
    rates = proportions(values, np.ones_like(values), resampling=resampling)
    return PassAtK(k=sizes, rate=tuple(rates), by_problem=values)


def best_temperature(
    correct: Int[Array, "temperatures problems"],
    samples: int | Int[Array, "temperatures problems"],
    *,
    temperatures: Sequence[float],
    ks: Ks,
    resampling: Resampling,
) -> BestTemperature:
    """Choose the best temperature for each k on one half of the problems and measure on the other, and in turn.

    The highest of several measured rates flatters; here no problem has a say in its own temperature. The halves are
    drawn with the resampling's seed.

    Args:
        correct: c, correct samples of each problem at each temperature.
        samples: n, for all or for each.
        temperatures: One for each row.
        ks: Values of k.
        resampling: How intervals are made.

    Raises:
        DataError: A count is impossible, or there are fewer than four problems.
        RecipeError: A k is below 1 or above n, or temperatures and rows differ in number.
    """
    if len(temperatures) != len(correct) or not len(correct):
        raise RecipeError(f"{len(temperatures)} temperatures for {len(correct)} rows of counts; give one for each")
    problems = correct.shape[1]
    if problems < 4:
        raise DataError(f"{problems} problems", expected="four or more, to choose on one half and measure on the other")
    drawn = np.broadcast_to(np.asarray(samples, np.int64), correct.shape)
    each = tuple(mean_pass_at_k(c, n, ks=ks, resampling=resampling) for c, n in zip(correct, drawn, strict=True))
    table = np.stack([one.by_problem for one in each], axis=1)
    half = np.random.default_rng(resampling.seed).permutation(problems) % 2

    def statistic(counts: Float[Array, "resamples problems"]) -> Float[Array, "resamples ks"]:
        return _crossed(counts, table, half)

    rates = bootstrap(statistic, problems, resampling=resampling, strata=half)
    best = [table[half == side].mean(axis=0).argmax(axis=0) for side in (0, 1)]
    chosen = np.asarray(temperatures, np.float64)[np.stack(best)]
    return BestTemperature(k=each[0].k, rate=tuple(rates), chosen=chosen, by_temperature=each)


def _crossed(
    counts: Float[Array, "resamples problems"],
    table: Float[Array, "problems temperatures ks"],
    half: Int[Array, " problems"],
) -> Float[Array, "resamples ks"]:
    """Mean over problems, each at the temperature that is best on the other half."""
    first, second = (np.tensordot(counts[:, half == side], table[half == side], axes=1) for side in (0, 1))
    crossed = sum(
        np.take_along_axis(measured, chooser.argmax(axis=1)[:, None, :], axis=1)[:, 0]
        for measured, chooser in ((first, second), (second, first))
    )
    return np.asarray(crossed / counts.sum(axis=1, keepdims=True), np.float64)


def _checked(correct: Int[Array, " problems"], drawn: Int[Array, " problems"], ks: Ks) -> Int[Array, " ks"]:
    if not len(correct):
        raise DataError("there are no problems", expected="at least one")
    bad = np.flatnonzero((correct < 0) | (correct > drawn) | (drawn < 1))
    if len(bad):
        found = f"{correct[bad[0]]} of {drawn[bad[0]]} samples of problem {bad[0]} are correct"
        raise DataError(found, expected="0 to n, with n at least 1")
    k, most = np.asarray(ks, np.int64), int(drawn.min())
    if not len(k) or k.min() < 1 or k.max() > most:
        raise RecipeError(f"k must lie between 1 and {most}, the fewest samples of a problem, got {list(ks)}")
    return k
