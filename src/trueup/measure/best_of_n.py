"""Best-of-n curves from one pool: proxy and gold of the selected response for every n up to the pool's size.

With a prompt's N samples in ascending order of the score that selects, the i-th is the best of a random n of them with
probability `C(i-1, n-1) / C(N, n)`. The weighted sum of any value is therefore the mean over all n-subsets: unbiased
for best-of-n under the base policy, and far less noisy than drawing subsets.

**Source** Nakano et al. (2021), WebGPT, arXiv 2112.09332, appendix; Gao, Schulman, Hilton (2023), arXiv 2210.10760.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from trueup.divergences.best_of_n import kl_with_ties, nominal_kl
from trueup.divergences.pool_scores import Ns, checked_n, checked_scores, tied_groups
from trueup.errors import RecipeError
from trueup.measure.bootstrap import Resampling, ratios
from trueup.measure.scored import Array, Estimate

# What is left out of a sum of weights that is 1.
_NEGLIGIBLE = 1e-18
# About 2 MiB of scores at a time, so that a chunk is sorted, gathered and summed in cache.
_CHUNK_ENTRIES = 2**18


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Proxy and gold along best-of-n.

    Args:
        n: Sizes, ascending.
        kl: Nominal KL from the base policy, `log n - (n - 1) / n` nats.
        kl_ties: The same with the pool's ties, mean over prompts; nats.
        proxy: Mean score that selects, with its interval over prompts.
        gold: Mean gold score, likewise; None without gold.
        proxy_by_prompt: The proxy's curve of each prompt.
        gold_by_prompt: Gold's curve of each prompt, or None.
    """

    n: Int[Array, " ns"]
    kl: Float[Array, " ns"]
    kl_ties: Float[Array, " ns"]
    proxy: tuple[Estimate, ...]
    gold: tuple[Estimate, ...] | None
    proxy_by_prompt: Float[Array, "prompts ns"]
    gold_by_prompt: Float[Array, "prompts ns"] | None


def curve(
    proxy: Num[Array, "prompts samples"],
    gold: Num[Array, "rows columns"] | None = None,
    *,
    n: Ns | None = None,
    resampling: Resampling,
) -> Curve:
    """Best-of-n by the proxy's score, with intervals by resampling prompts.

    Args:
        proxy: Scores that select.
        gold: Scores that judge, of the same responses; or None.
        n: Sizes; `n_grid` when None.
        resampling: How intervals are made.

    Raises:
        DataError: A score is missing or not finite, or the shapes differ.
        RecipeError: An n is below 1 or above the number of samples.
    """
    proxy = checked_scores(proxy, "proxy")
    sizes = n_grid(proxy.shape[1]) if n is None else np.unique(checked_n(n, samples=proxy.shape[1]))
    judged = [] if gold is None else [checked_scores(gold, "gold", shape=proxy.shape)]
    by_prompt = best_of_n_many(proxy, [proxy, *judged], sizes)
    bands = [_bands(table, resampling) for table in by_prompt]
    return Curve(
        n=sizes,
        kl=nominal_kl(sizes),
        kl_ties=kl_with_ties(proxy, sizes).mean(axis=0),
        proxy=bands[0],
        gold=bands[1] if judged else None,
        proxy_by_prompt=by_prompt[0],
        gold_by_prompt=by_prompt[1] if judged else None,
    )


def _bands(by_prompt: Float[Array, "prompts ns"], resampling: Resampling) -> tuple[Estimate, ...]:
    return tuple(ratios(by_prompt, np.ones_like(by_prompt), resampling=resampling))


def n_grid(samples: int, *, per_octave: int = 2) -> Int[Array, " ns"]:
    """Sizes from 1 to `samples`, both included, spaced evenly in log n as far as whole numbers allow.

    >>> n_grid(16).tolist()
    [1, 2, 3, 4, 6, 8, 11, 16]
    """
    if samples < 1 or per_octave < 1:
        raise RecipeError(f"samples and per_octave must be at least 1, got {samples} and {per_octave}")
    steps = np.arange(int(np.log2(samples) * per_octave) + 1)
    return np.unique(np.r_[np.rint(2.0 ** (steps / per_octave)).astype(np.int64).clip(1, samples), samples])


def weights(samples: int, n: Ns) -> Float[Array, "ns samples"]:
    """Probability that the i-th smallest of N samples is the largest of n of them: `C(i-1, n-1) / C(N, n)`.

    >>> weights(3, 2).round(6).tolist()
    [[0.0, 0.333333, 0.666667]]
    """
    return _top_weights(samples, checked_n(n, samples=samples), samples)


def _top_weights(samples: int, n: Int[Array, " ns"], top: int) -> Float[Array, "ns top"]:
    """Weights of the `top` largest, ascending.

    The largest has n/N, and the ratio of neighbours is `w_i / w_{i+1} = (i - n + 1) / i`. A running product of these
    keeps every digit, which differences of log-gammas do not, and it underflows to zero where a weight is nothing.
    """
    ranks = np.arange(samples - 1, samples - top, -1)
    table = np.empty((len(n), top))
    table[:, 0] = n / samples
    np.maximum((ranks - n[:, None] + 1) / np.maximum(ranks, 1), 0.0, out=table[:, 1:])
    return np.cumprod(table, axis=1)[:, ::-1]


def best_of_n(
    select: Num[Array, "prompts samples"], value: Num[Array, "rows columns"], n: Ns
) -> Float[Array, "prompts ns"]:
    """Expected `value` of the response with the highest `select` among n of the N samples, for each prompt.

    Unbiased for n draws from the base policy. Where scores tie, all orders of the tied responses are equally likely, so
    each counts with the mean value of its group: `value` never breaks a tie, nor does the order of the samples.
    """
    return best_of_n_many(select, [value], n)[0]


def best_of_n_many(
    select: Num[Array, "prompts samples"], values: Sequence[Num[Array, "rows columns"]], n: Ns
) -> Float[Array, "values prompts ns"]:
    """`best_of_n` of several values (proxy, gold, features) that share one sort.

    For large n only the largest scores carry weight: samples whose weights sum to less than 1e-18 are left out.
    """
    select = checked_scores(select, "select")
    prompts, samples = select.shape
    sizes = checked_n(n, samples=samples)
    tables = [
        select if value is select else checked_scores(value, f"values[{k}]", shape=select.shape)
        for k, value in enumerate(values)
    ]
    blocks = list(_blocks(samples, sizes))
    out = np.empty((len(tables), prompts, len(sizes)))
    step = max(1, _CHUNK_ENTRIES // samples)
    for start in range(0, prompts, step):
        rows = slice(start, start + step)
        order = np.argsort(select[rows], axis=1)
        ascending = _gather(select[rows], order)
        ties = tied_groups(ascending)
        for k, table in enumerate(tables):
            ordered = ascending if table is select else _level(_gather(table[rows], order), ties)
            for columns, top in blocks:
                out[k][rows, columns] = ordered[:, samples - top.shape[1] :] @ top.T
    return out


def in_order_of(
    select: Num[Array, "prompts samples"], value: Num[Array, "rows columns"]
) -> Float[Array, "prompts samples"]:
    """Each prompt's values by ascending `select`, tied samples sharing the mean of theirs."""
    select = checked_scores(select, "select")
    value = checked_scores(value, "value", shape=select.shape)
    order = np.argsort(select, axis=1)
    return _level(_gather(value, order), tied_groups(_gather(select, order)))


def _blocks(samples: int, n: Int[Array, " ns"]) -> Iterator[tuple[Int[Array, " some"], Float[Array, "some top"]]]:
    """Sizes that need about the same number of top samples, and their weights.

    All but the `top` largest together have weight `C(N - top, n) / C(N, n) <= (1 - top / N)^n`. Numbers of samples are
    rounded up to N / 2^k, so that there are few blocks.
    """
    share = -np.expm1(np.log(_NEGLIGIBLE) / n)
    halvings = np.floor(-np.log2(share)).astype(np.int64)
    for halving in np.unique(halvings).tolist():
        columns = np.flatnonzero(halvings == halving)
        yield columns, _top_weights(samples, n[columns], -(-samples >> halving))


def _gather(table: Float[Array, "rows samples"], order: Int[Array, "rows samples"]) -> Float[Array, "rows samples"]:
    """Each row in its own order, in double precision."""
    out = np.empty(table.shape)
    for row, places, target in zip(table.astype(np.float64, copy=False), order, out, strict=True):
        np.take(row, places, out=target, mode="clip")
    return out


def _level(
    ordered: Float[Array, "rows samples"], groups: tuple[Int[Array, " groups"], Int[Array, " groups"]]
) -> Float[Array, "rows samples"]:
    """Replace, in place, the values of every group of tied scores by their mean."""
    starts, ends = groups
    if not len(starts):
        return ordered
    sizes = ends - starts
    offsets = np.cumsum(sizes) - sizes
    members = np.repeat(starts - offsets, sizes) + np.arange(sizes.sum())
    flat = ordered.reshape(-1)
    flat[members] = np.repeat(np.add.reduceat(flat[members], offsets) / sizes, sizes)
    return ordered
