import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from measure.builders import build_split
from trueup.measure.ranking import accuracy, kendall_tau, mean_tau, pair_wins, rankable, tau_b, ties


def test_accuracy_counts_strict_wins_and_ties_apart(make_split, few):
    split = make_split([[2, 1], [1, 1], [0, 3], [5, 4, 3]])
    assert accuracy(split, resampling=few).value == pytest.approx(3 / 5)
    assert accuracy(split, resampling=few).n == 4
    assert ties(split) == 1
    assert pair_wins(split).tolist() == [[1, 1], [0, 1], [0, 1], [2, 2]]


def test_pairs_of_one_prompt_count_as_one_unit(make_split, few):
    rng = np.random.default_rng(0)
    independent = make_split([[float(won), 0.5] for won in rng.random(400) < 0.7])
    copied = make_split([[float(won)] + [0.5] * 20 for won in rng.random(20) < 0.7])
    assert len(independent.pairs) == len(copied.pairs)
    narrow, wide = accuracy(independent, resampling=few), accuracy(copied, resampling=few)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=7), min_size=1, max_size=8)
)
@settings(deadline=None)
def test_tau_equals_scipys_for_prompts_of_any_size(prompts):
    split = build_split(
        [[float(r) for r, _ in row] for row in prompts], gold=np.array([float(g) for row in prompts for _, g in row])
    )
    for row, ours in zip(prompts, kendall_tau(split), strict=True):
        oracle = stats.kendalltau([r for r, _ in row], [g for _, g in row]).statistic if len(row) > 1 else np.nan
        assert ours == pytest.approx(oracle, nan_ok=True)


def test_same_order_is_one_and_reversed_minus_one(make_split):
    split = make_split([[1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 4]], gold=np.array([1.0, 2, 3, 4] * 2 + [1, 3, 2, 4]))
    assert kendall_tau(split).tolist() == [1.0, -1.0, pytest.approx(4 / 6)]


def test_constant_rewards_are_skipped_and_counted_never_zero(make_split, few):
    split = make_split([[1, 2, 3], [7, 7, 7], [1, 2, 3], [9]], gold=np.array([1.0, 2, 3] * 3 + [1]))
    estimate, undefined = mean_tau(split, resampling=few)
    assert (estimate.value, estimate.n, undefined) == (1.0, 2, 1)
    assert rankable(split) == 3


def test_responses_without_gold_are_left_out():
    ours = tau_b(np.array([[1.0, 9.0, 2.0, 3.0]]), np.array([[1.0, np.nan, 3.0, 2.0]]))
    assert ours[0] == pytest.approx(1 / 3)


def test_no_gold_no_tau(make_split):
    split = make_split([[1, 2]])
    assert np.isnan(kendall_tau(split)).all()
    assert rankable(split) == 0
