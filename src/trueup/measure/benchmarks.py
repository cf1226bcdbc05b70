"""Which public benchmark a split is, and its scores."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from trueup.measure.bootstrap import Resampling
from trueup.measure.reward_bench import SECTIONS, RewardBench, reward_bench
from trueup.measure.reward_bench_2 import SUBSETS, RewardBench2, reward_bench_2
from trueup.measure.rm_bench import DOMAINS, RMBench, rm_bench
from trueup.measure.scored import Array, ScoredSplit

Benchmark = RMBench | RewardBench | RewardBench2

BENCHMARKS: Mapping[str, Callable[..., Benchmark]] = {
    "rm-bench": rm_bench,
    "reward-bench": reward_bench,
    "reward-bench-2": reward_bench_2,
}
"""Scoring function of each benchmark: `score(split, correct, resampling=...)`."""


def recognize(split: ScoredSplit, correct: Bool[Array, " responses"] | None) -> str | None:
    """Name of the benchmark whose subsets and row shape the split has, or None.

    RM-Bench: its five domains, three right and three wrong responses. RewardBench: its subset names, one
    right and one wrong. RewardBench 2: its subset names, at least one right and three or more responses.
    """
    if correct is None or split.subset is None or not split.prompts:
        return None
    names = set(split.subset)
    right = np.bincount(split.prompt[correct], minlength=split.prompts)
    wrong = np.bincount(split.prompt[~correct], minlength=split.prompts)
    if names <= {part for parts in DOMAINS.values() for part in parts}:
        return "rm-bench" if (right == 3).all() and (wrong == 3).all() else None
    if names <= {name for section in SECTIONS.values() for name in section}:
        return "reward-bench" if (right == 1).all() and (wrong == 1).all() else None
    if names <= set(SUBSETS):
        return "reward-bench-2" if (right >= 1).all() and (wrong >= 1).all() else None
    return None


def benchmark(
    split: ScoredSplit, correct: Bool[Array, " responses"], *, kind: str, resampling: Resampling
) -> Benchmark:
    """Score a split as the benchmark `kind`, a key of `BENCHMARKS`."""
    return BENCHMARKS[kind](split, correct, resampling=resampling)
