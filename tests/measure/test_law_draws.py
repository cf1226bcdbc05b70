import numpy as np
import pytest
from scipy import stats

from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import curves, expanded_draws, interval, mean_estimate


@pytest.mark.parametrize("units", [5, 60])
def test_expanded_draws_have_the_spread_of_students_interval(units):
    values = np.random.default_rng(0).normal(size=(units, 1))
    draws = expanded_draws(values, resampling=Resampling(resamples=20000))
    half = stats.t.ppf(0.975, units - 1) * stats.sem(values[:, 0])
    assert draws.std() * stats.norm.ppf(0.975) == pytest.approx(half, rel=0.02)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.02)


@pytest.mark.parametrize("units", [2, 3, 5])
def test_intervals_of_a_mean_are_honest_for_very_few_units(units):
    covered = 0
    for seed in range(1000):
        values = np.random.default_rng(seed).normal(size=units)
        estimate = mean_estimate(values, resampling=Resampling(resamples=300, seed=seed))
        covered += estimate.low <= 0 <= estimate.high
    assert 0.92 <= covered / 1000 <= 0.97


def test_infinite_draws_are_kept_and_bound_the_interval_on_one_side_only():
    draws = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    estimate = interval(50.0, draws, level=0.9, n=7)
    assert (estimate.low, estimate.high, estimate.n) == (4.0, np.inf, 7)


def test_interval_of_many_draws_equals_their_quantiles():
    draws = np.random.default_rng(1).normal(size=4001)
    estimate = interval(0.0, draws, level=0.95, n=3)
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist(), abs=0.01)


def test_undefined_values_have_no_interval():
    assert np.isnan(interval(np.nan, np.ones(5), level=0.9, n=3).low)
    assert np.isnan(interval(1.0, np.array([1.0, np.nan]), level=0.9, n=3).low)
    assert np.isnan(interval(1.0, np.empty(0), level=0.9, n=1).high)


def test_curves_are_sorted_cut_and_shifted_by_each_units_own_start():
    d = np.array([2.0, 0.0, 1.0])
    given = curves(d, np.array([[5.0, 1.0, 2.0], [9.0, 3.0, 3.0]]), resampling=Resampling(resamples=10), up_to=1.5)
    assert given.d.tolist() == [0.0, 1.0]
    assert given.units.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert given.mean.tolist() == [0.0, 0.5]
    assert given.draws.shape == (10, 2)
    assert (given.draws[:, 0] == 0).all()
