import numpy as np
import pytest

from trueup.measure.benchmarks import BENCHMARKS, benchmark, recognize
from trueup.measure.reward_bench import RewardBench

PAIR = np.array([True, False])


def test_each_benchmark_is_recognized_by_names_and_shape(make_split):
    assert recognize(make_split([[1, 0]], subset=("hep-cpp",)), PAIR) == "reward-bench"
    assert recognize(make_split([[0] * 6], subset=("code",)), np.array([True] * 3 + [False] * 3)) == "rm-bench"
    assert recognize(make_split([[1, 0, 0, 0]], subset=("Focus",)), np.array([True] + [False] * 3)) == "reward-bench-2"


@pytest.mark.parametrize(
    ("rows", "subset", "correct"),
    [
        ([[1, 0]], None, PAIR),
        ([[1, 0]], ("poetry",), PAIR),
        ([[1, 0]], ("chat",), PAIR),
        ([[1, 0]], ("hep-cpp",), np.array([True, True])),
        ([[1, 0]], ("Focus",), np.array([False, False])),
        ([[1, 0]], (None,), PAIR),
        ([[1, 0]], ("hep-cpp",), None),
    ],
)
def test_other_splits_are_no_benchmark(make_split, rows, subset, correct):
    assert recognize(make_split(rows, subset=subset), correct) is None


def test_dispatch_by_name(make_split, few):
    assert set(BENCHMARKS) == {"rm-bench", "reward-bench", "reward-bench-2"}
    ours = benchmark(make_split([[1, 0]], subset=("hep-cpp",)), PAIR, kind="reward-bench", resampling=few)
    assert isinstance(ours, RewardBench)
