"""The best-of-n benchmark on a pool small enough to be summed by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import best_of_n as benchmark


def test_exact_weights_of_the_card():
    assert benchmark.exact_weights(3, [1, 2, 3]) == [[1 / 3] * 3, [1 / 3, 2 / 3], [1.0]]


def test_both_sides_agree_with_a_sum_by_hand():
    proxy, gold = np.array([[2.0, 1.0, 3.0]]), np.array([[5.0, 9.0, 7.0]])
    sums = benchmark.direct_sums(proxy, gold, benchmark.exact_weights(3, [1, 2, 3]))
    assert sums == pytest.approx(np.array([[[2, 8 / 3, 3]], [[7, 19 / 3, 7]]]))
    ours, theirs = (side(*benchmark.pool(4, 300))[0] for side in benchmark.SIDES.values())
    assert ours.shape == theirs.shape
    assert benchmark.largest_difference(ours, theirs) < benchmark.TOLERANCE


def test_a_difference_is_seen():
    exact = np.ones((2, 3, 4))
    assert benchmark.largest_difference(exact + 1e-6 * (np.arange(4) == 3), exact) == pytest.approx(1e-6)


def test_medians():
    runs = [{"total": 3.0, "sort": 1.0}, {"total": 1.0, "sort": 2.0}, {"total": 2.0, "sort": 9.0}]
    assert benchmark.summary({"trueup": runs}) == {"trueup": {"total": 2.0, "sort": 2.0}}


def test_a_whole_run_passes_its_check():
    result = benchmark.run(3, 40, repeats=1)
    assert [check["passed"] for check in result["checks"]] == [True]
    assert result["ratio"] == pytest.approx(result["seconds"]["direct"]["total"] / result["seconds"]["trueup"]["total"])
