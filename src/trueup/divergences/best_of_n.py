"""How far best-of-n moves from the policy it draws from.

Best-of-n draws n responses and keeps the one with the highest score. With F the distribution function of the score
under the base policy, a response at quantile u = F(score) has its probability multiplied by n u^(n-1). Scores with
ties move less, as a tie is shared in proportion to the base probabilities: what counts is groups of equal score.
Group i with base mass f_i = F_i - F_{i-1} is selected with probability

    p_i = F_i^n - F_{i-1}^n

and inside a group the ratio to the base policy is p_i / f_i everywhere. So the divergence between score groups is that
between responses, whatever the texts are.

**Source** Gao, Schulman, Hilton (2023), arXiv 2210.10760, for the nominal KL; the rest is algebra.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num

from trueup.divergences.pool_scores import Array, checked_scores, tied_groups
from trueup.errors import RecipeError

Term = Callable[[Float[Array, " groups"], Float[Array, " groups"]], Float[Array, " groups"]]
"""A group's part of a divergence, from log p_i and log f_i: `f_i phi(p_i / f_i)` with `phi >= 0`, `phi(1) = 0`."""


def nominal_kl(n: Num[Array, " ns"] | float) -> Float[Array, " ns"]:
    """KL of best-of-n from the base policy for scores without ties: `log n - (n - 1) / n`, in nats.

    It is an upper bound where scores tie. Real n are fine: the density n u^(n-1) needs no whole number.

    >>> float(nominal_kl(2).round(6))
    0.193147
    """
    sizes = _at_least_one(n)
    return np.log(sizes) - (sizes - 1) / sizes


def nominal_chi2(n: Num[Array, " ns"] | float) -> Float[Array, " ns"]:
    """Chi-squared of best-of-n from the base policy without ties: `n^2 / (2n - 1) - 1`.

    >>> float(nominal_chi2(2).round(6))
    0.333333
    """
    sizes = _at_least_one(n)
    return (sizes - 1) ** 2 / (2 * sizes - 1)


def kl_with_ties(select: Num[Array, "prompts samples"], n: Num[Array, " ns"]) -> Float[Array, "prompts ns"]:
    """Exact KL of best-of-n from the base policy where both live on the pool: `sum_i p_i log(p_i / f_i)`, in nats.

    Taking the pool for the policy has two limits. A pool of N distinct scores has no more than N levels: the value
    falls below the nominal one by about (n/N)^2 / 24, which is 0.04 nats at n = N, and tends to log N beyond. And
    responses that are rarer than 1/N are seen once and count as distinct, so ties among them are missed. Trust it
    for n well below N.

    Args:
        select: Scores that select, one row for each prompt.
        n: Sizes, at least 1; they need not be whole, nor below N.

    Returns:
        At most `nominal_kl(n)`, and 0 where all scores of a prompt are equal.
    """
    return _over_groups(select, n, lambda p, f: np.exp(p) * (p - f) - np.exp(f) * np.expm1(p - f))


def chi2_with_ties(select: Num[Array, "prompts samples"], n: Num[Array, " ns"]) -> Float[Array, "prompts ns"]:
    """Exact chi-squared of best-of-n on the pool: `sum_i p_i^2 / f_i - 1`. Arguments and limits: see `kl_with_ties`."""
    return _over_groups(select, n, lambda p, f: np.exp(f) * np.expm1(p - f) ** 2)


def _over_groups(select: Num[Array, "prompts samples"], n: Num[Array, " ns"], term: Term) -> Float[Array, "prompts ns"]:
    """Sum of `term` over each prompt's groups.

    The sum as if all scores were distinct is the same for every prompt; each tied group then takes the place of its
    members, so that only ties cost anything.
    """
    ascending = np.sort(checked_scores(select, "select"), axis=1)
    prompts, samples = ascending.shape
    starts, ends = tied_groups(ascending)
    prompt = starts // samples
    low, high = starts - prompt * samples, ends - prompt * samples
    ranks = np.arange(1, samples + 1)
    out = np.empty((prompts, np.size(n)))
    for column, size in enumerate(_at_least_one(n).ravel()):
        distinct = np.r_[0.0, np.cumsum(_terms(ranks - 1, ranks, samples, n=size, term=term))]
        tied = _terms(low, high, samples, n=size, term=term) - (distinct[high] - distinct[low])
        out[:, column] = distinct[-1] + np.bincount(prompt, weights=tied, minlength=prompts)
    return np.maximum(out, 0.0)


def _terms(low: Array, high: Array, samples: int, *, n: float, term: Term) -> Float[Array, " groups"]:
    """`term` of the groups of ranks (low, high].

    `log p = n log(high / N) + log(1 - (low / high)^n)`: no cancellation, however large n and N are.
    """
    with np.errstate(divide="ignore"):
        below = n * np.log1p((low - high) / high)
    log_p = n * np.log(high / samples) + np.log(-np.expm1(below))
    return term(log_p, np.log((high - low) / samples))


def _at_least_one(n: Num[Array, " ns"] | float) -> Float[Array, " ns"]:
    sizes = np.asarray(n, np.float64)
    if not np.all(sizes >= 1) or not np.all(np.isfinite(sizes)):
        raise RecipeError(f"n must be at least 1 and finite, got {sizes.tolist()}")
    return sizes
