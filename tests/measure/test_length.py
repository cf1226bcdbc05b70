import numpy as np
import pytest
from scipy import stats

from trueup.measure.bootstrap import Resampling
from trueup.measure.length import length_accuracy, length_correlation


def test_overall_correlation_equals_scipys_and_within_is_the_mean(make_split, few):
    rng = np.random.default_rng(0)
    rewards, length = rng.normal(size=(60, 4)), rng.integers(5, 30, (60, 4)).astype(float)
    ours = length_correlation(make_split(rewards.tolist(), length=length.ravel()), resampling=few)
    assert ours.overall.value == pytest.approx(stats.spearmanr(rewards.ravel(), length.ravel()).statistic)
    inside = [stats.spearmanr(r, n).statistic for r, n in zip(rewards, length, strict=True) if len(set(n)) > 1]
    assert ours.within_prompt.value == pytest.approx(np.mean(inside))
    assert ours.undefined == 60 - len(inside)


def test_prompt_level_length_is_seen_overall_but_not_within(make_split, few):
    rng = np.random.default_rng(1)
    level = np.repeat(rng.permutation(50), 4).reshape(50, 4)
    rewards, length = level + 0.1 * rng.random((50, 4)), level * 100.0 + rng.random((50, 4))
    ours = length_correlation(make_split(rewards.tolist(), length=length.ravel()), resampling=few)
    assert ours.overall.low > 0.9
    assert abs(ours.within_prompt.value) < 0.2


def test_spearman_interval_agrees_with_fishers_for_independent_rows(make_split):
    rng = np.random.default_rng(2)
    x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=600).T
    ours = length_correlation(
        make_split([[value] for value in x], length=y), resampling=Resampling(resamples=1000)
    ).overall
    z, error = np.arctanh(ours.value), np.sqrt((1 + ours.value**2 / 2) / 597)
    assert ours.low == pytest.approx(np.tanh(z - 1.96 * error), abs=0.015)
    assert ours.high == pytest.approx(np.tanh(z + 1.96 * error), abs=0.015)


def test_hand_worked_accuracies(make_split, few):
    split = make_split(
        [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]], length=np.array([100, 90, 50, 100, 10, 100, 30, 20, 7, 7.0])
    )
    ours = length_accuracy(split, resampling=few)
    assert ours.longer_wins.value == pytest.approx((1 + 0 + 0 + 1 + 0.5) / 5)
    assert ours.over_longer_wins.value == pytest.approx(3 / 5 - 2.5 / 5)
    assert (ours.matched.value, ours.matched.n) == (0.5, 2)
    assert (ours.chosen_shorter.value, ours.chosen_shorter.n) == (0.5, 2)
    assert (ours.chosen_longer.value, ours.chosen_longer.n) == (1.0, 2)
    assert ours.tolerance == 0.1


def test_a_reward_that_is_length_equals_the_baseline(make_split, few):
    length = np.random.default_rng(3).permutation(400).reshape(200, 2).astype(float)
    ours = length_accuracy(make_split(length.tolist(), length=length.ravel()), resampling=few)
    assert (ours.over_longer_wins.low, ours.over_longer_wins.high) == (0.0, 0.0)
    assert (ours.chosen_shorter.value, ours.chosen_longer.value) == (0.0, 1.0)


def test_no_matched_pairs_is_undefined_not_zero(make_split, few):
    ours = length_accuracy(make_split([[1, 0]] * 3, length=np.array([1, 9.0] * 3)), resampling=few)
    assert np.isnan(ours.matched.value)
    assert ours.matched.n == 0
