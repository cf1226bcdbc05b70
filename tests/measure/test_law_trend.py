import numpy as np
import pytest
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.laws import trend

SIZES = np.array([3e6, 12e6, 25e6, 42e6, 85e6, 300e6, 680e6, 1.2e9, 3e9])
FEW = Resampling(resamples=500)


def test_a_line_in_log_size_is_recovered_for_every_seed():
    values = 0.49 + 0.065 * np.log10(SIZES / 3e6) + np.array([[0.0], [0.2], [-0.1]])
    found = trend(SIZES, values, resampling=FEW)
    assert [found.slope.value, found.slope.low, found.slope.high] == pytest.approx([0.065] * 3)
    assert (found.rank_correlation.value, found.rank_correlation.low) == pytest.approx((1.0, 1.0))


def test_the_papers_plotted_coefficients_have_the_trends_it_reports():
    alpha = np.array([[0.490, 0.513, 0.558, 0.548, 0.599, 0.633, 0.649, 0.653, 0.662]])
    beta = np.array([[0.120, 0.120, 0.115, 0.111, 0.106, 0.0995, 0.098, 0.0965, 0.090]])
    assert trend(SIZES, alpha, resampling=FEW).slope.value == pytest.approx(0.065, abs=0.003)
    assert trend(SIZES, beta, resampling=FEW).slope.value == pytest.approx(-0.0108, abs=0.0005)
    assert trend(SIZES, beta, resampling=FEW).rank_correlation.value < -0.95


def test_slope_and_ranks_agree_with_scipy():
    values = np.random.default_rng(0).normal(size=(6, len(SIZES))).round(1)
    found = trend(SIZES, values, resampling=FEW)
    slopes = [stats.linregress(np.log10(SIZES), row).slope for row in values]
    ranks = [stats.spearmanr(SIZES, row).statistic for row in values]
    assert (found.slope.value, found.rank_correlation.value) == pytest.approx((np.mean(slopes), np.mean(ranks)))


def test_interval_covers_the_slope_over_five_seeds():
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        own = 0.05 + 0.03 * rng.normal(size=(5, 1))
        values = own * np.log10(SIZES) + 0.02 * rng.normal(size=(5, len(SIZES)))
        slope = trend(SIZES, values, resampling=Resampling(resamples=300, seed=seed)).slope
        covered += slope.low <= 0.05 <= slope.high
    assert 0.92 <= covered / 400 <= 0.98


def test_one_seed_has_no_interval_and_a_constant_no_rank_correlation():
    found = trend(SIZES, np.ones((1, len(SIZES))), resampling=FEW)
    assert np.isnan(found.slope.low)
    assert found.rank_correlation.value == 0


def test_bounds_stay_within_those_of_a_correlation():
    values = np.array([np.arange(9.0), -np.arange(9.0)])
    found = trend(SIZES, values, resampling=FEW).rank_correlation
    assert (found.value, found.low, found.high) == (0.0, -1.0, 1.0)


def test_senseless_sizes_and_values_are_refused():
    with pytest.raises(RecipeError, match="two different sizes"):
        trend(np.array([1e6, 1e6]), np.ones((3, 2)), resampling=FEW)
    with pytest.raises(DataError, match="not positive"):
        trend(np.array([0.0, 1e6]), np.ones((3, 2)), resampling=FEW)
    with pytest.raises(DataError, match="seed 2 at size 1e\\+06"):
        trend(np.array([10.0, 1e6]), np.array([[1.0, 1.0], [1.0, np.nan]]), resampling=FEW)
