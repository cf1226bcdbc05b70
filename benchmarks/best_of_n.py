"""Best-of-n curves from one pool: trueup against the direct sum with exact integer binomials.

    python benchmarks/best_of_n.py [--quick] [--json FILE] [--repeats 3]

The pool is 1,000 prompts of 10,000 samples with a proxy and a gold score each; the curve has all of `n_grid`'s sizes.
The direct side does what the public scripts do: `comb(i - 1, n - 1) / comb(N, n)` in exact integers, a sort of each
prompt's pairs, and a Python sum for each n. It makes the weights once for all prompts, which is generous. One thread
on both sides, whatever --threads says. The scores are positive, so that relative differences mean something, and
distinct, as the direct sum knows no ties.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import harness
import numpy as np

TOLERANCE = 1e-10
FULL, QUICK = (1000, 10_000), (100, 1000)

Array = np.ndarray


def pool(prompts: int, samples: int) -> tuple[Array, Array]:
    """Proxy and gold with heavy-tailed error, shifted to be positive."""
    generator = np.random.default_rng(0)
    gold = generator.normal(size=(prompts, samples))
    proxy = gold + 0.5 * generator.standard_t(2.5, size=gold.shape)
    return proxy - proxy.min() + 1, gold - gold.min() + 1


def exact_weights(samples: int, sizes: list[int]) -> list[list[float]]:
    """Weights of the samples from rank n upwards, for each n; the quotient of two integers is rounded once."""
    table = []
    for n in sizes:
        total = comb(samples, n)
        table.append([comb(i - 1, n - 1) / total for i in range(n, samples + 1)])
    return table


def direct_sums(proxy: Array, gold: Array, weights: list[list[float]]) -> Array:
    """Proxy's and gold's curves of each prompt, sorted and summed one by one."""
    curves = []
    for scores, judged in zip(proxy.tolist(), gold.tolist(), strict=True):
        pairs = sorted(zip(scores, judged, strict=True))
        ordered = [[pair[k] for pair in pairs] for k in (0, 1)]
        curves.append([[_dot(row, values[-len(row) :]) for row in weights] for values in ordered])
    return np.moveaxis(np.array(curves), 0, 1)


def _dot(weights: list[float], values: list[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def timed(work: Callable[[], Any], *, times: int = 1) -> tuple[Any, float]:
    """Result, and the median of the seconds it took."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, harness.median(seconds)


def trueup_side(proxy: Array, gold: Array) -> tuple[Array, dict[str, float]]:
    """The curves; besides, a bare sort and the whole of `curve`, with its KL and intervals."""
    from trueup.measure.best_of_n import best_of_n_many, curve, n_grid
    from trueup.measure.bootstrap import Resampling

    sizes = n_grid(proxy.shape[1])
    table, total = timed(lambda: best_of_n_many(proxy, [proxy, gold], sizes), times=7)
    sort = timed(lambda: np.argsort(proxy, axis=1), times=7)[1]
    whole = timed(lambda: curve(proxy, gold, n=sizes, resampling=Resampling()), times=7)[1]
    return table, {"total": total, "sort": sort, "beyond_sort": total - sort, "curve_with_bands": whole}


def direct_side(proxy: Array, gold: Array) -> tuple[Array, dict[str, float]]:
    """The same curves by exact integers."""
    from trueup.measure.best_of_n import n_grid

    weights, making = timed(lambda: exact_weights(proxy.shape[1], n_grid(proxy.shape[1]).tolist()))
    table, summing = timed(lambda: direct_sums(proxy, gold, weights))
    return table, {"total": making + summing, "weights": making, "sort_and_sums": summing}


SIDES = {"trueup": trueup_side, "direct": direct_side}


def worker(request: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process."""
    table, seconds = SIDES[request["side"]](*pool(request["prompts"], request["samples"]))
    np.save(request["curves"], table)
    return seconds | {"peak_mib": harness.peak_memory()}


def largest_difference(ours: Array, exact: Array) -> float:
    """Largest relative difference of any prompt at any n."""
    return float(np.max(np.abs(ours - exact) / np.abs(exact)))


def summary(measured: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of every figure of each side."""
    return {
        side: {name: harness.median([run[name] for run in runs]) for name in runs[0]} for side, runs in measured.items()
    }


def run(prompts: int, samples: int, *, repeats: int) -> dict[str, Any]:
    """Both sides in turn, and the check that they agree."""
    with tempfile.TemporaryDirectory() as folder:

        def measure(side: str) -> Callable[[], dict[str, Any]]:
            request = {"side": side, "prompts": prompts, "samples": samples, "curves": f"{folder}/{side}.npy"}
            return lambda: harness.in_process(Path(__file__).resolve(), request, threads=1)

        measured = harness.alternate({side: measure(side) for side in SIDES}, repeats=repeats)
        curves = [np.load(f"{folder}/{side}.npy") for side in SIDES]
    ratios = [direct["total"] / ours["total"] for ours, direct in zip(*measured.values(), strict=True)]
    difference = largest_difference(*curves)
    return {
        "benchmark": "best_of_n",
        "pool": {"prompts": prompts, "samples": samples, "sizes": int(curves[0].shape[2])},
        "seconds": summary(measured),
        "ratio": harness.median(ratios),
        "largest_relative_difference": difference,
        "checks": [{"name": "curves agree", "passed": difference <= TOLERANCE}],
    }


def main() -> None:
    """Measure, print, and fail where the curves differ."""
    given = harness.arguments(__doc__ or "")
    prompts, samples = QUICK if given.quick else FULL
    harness.finish(run(prompts, samples, repeats=given.repeats or 3), given.json)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(worker(json.loads(sys.argv[2]))))
    else:
        main()
