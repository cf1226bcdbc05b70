import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trueup.errors import RecipeError
from trueup.measure.bootstrap import (
    Resampling,
    bootstrap,
    mean,
    paired_difference,
    proportions,
    ratios,
    resampled_counts,
    sum_by,
    wilson,
)


def test_counts_draw_as_many_units_as_there_are_within_each_stratum():
    strata = np.array([0, 1, 1, 0, 2, 1])
    counts = np.concatenate(list(resampled_counts(6, resampling=Resampling(resamples=400), strata=strata)))
    assert counts.shape == (400, 6)
    for label, size in ((0, 2), (1, 3), (2, 1)):
        assert (counts[:, strata == label].sum(axis=1) == size).all()
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.2


def test_counts_are_multinomial():
    counts = np.concatenate(list(resampled_counts(5, resampling=Resampling(resamples=20000))))
    assert counts.var(axis=0) == pytest.approx(np.full(5, 0.8), rel=0.05)
    assert np.cov(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-0.2, abs=0.02)


def test_chunks_cover_every_resample_when_units_are_many():
    chunks = list(resampled_counts(1_000_000, resampling=Resampling(resamples=5)))
    assert len(chunks) > 1
    assert sum(len(chunk) for chunk in chunks) == 5
    assert all((chunk.sum(axis=1) == 1_000_000).all() for chunk in chunks)


def test_mean_interval_equals_student_interval_on_gaussian_values():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    estimate = mean(values, resampling=Resampling(resamples=5000))
    low, high = stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert estimate.n == 400


def test_few_units_get_a_wider_interval_than_plain_percentiles():
    values = np.array([0.1, 0.4, 0.2, 0.5, 0.3])
    estimate = mean(values, resampling=Resampling(resamples=4000))
    rng = np.random.default_rng(0)
    plain = np.quantile(rng.choice(values, size=(4000, 5)).mean(axis=1), [0.025, 0.975])
    assert estimate.low < plain[0]
    assert estimate.high > plain[1]


def test_nan_values_are_left_out_and_not_counted():
    estimate = mean(np.array([1.0, np.nan, 3.0]), resampling=Resampling(resamples=50))
    assert (estimate.value, estimate.n) == (2.0, 2)


def test_one_unit_has_no_interval_and_none_has_no_value():
    one = mean(np.array([2.0]), resampling=Resampling())
    assert one.value == 2.0
    assert np.isnan([one.low, one.high]).all()
    assert np.isnan(mean(np.array([]), resampling=Resampling()).value)


def test_accuracy_interval_agrees_with_wilson_for_independent_pairs():
    won = (np.arange(500) < 350).astype(float)[:, None]
    estimate = proportions(won, np.ones_like(won), resampling=Resampling(resamples=4000))[0]
    oracle = wilson(350.0, 500)
    assert estimate.low == pytest.approx(oracle.low, abs=0.006)
    assert estimate.high == pytest.approx(oracle.high, abs=0.006)


def test_unanimous_units_get_wilsons_interval():
    won = np.ones((20, 1))
    estimate = proportions(won, won, resampling=Resampling(resamples=50))[0]
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(20 / (20 + stats.norm.ppf(0.975) ** 2))


def test_wilson_solves_its_quadratic():
    estimate = wilson(7.0, 40, level=0.9)
    z = stats.norm.ppf(0.95)
    for end in (estimate.low, estimate.high):
        assert (estimate.value - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / 40)


def test_combination_is_the_same_weighted_sum_of_ratios():
    rng = np.random.default_rng(1)
    tops, bottoms = rng.random((50, 3)), rng.integers(1, 4, size=(50, 3)).astype(float)
    weights = np.array([[0.5, 0.5, 0.0], [1.0, -1.0, 2.0]])
    settings_ = Resampling(resamples=50)
    combined = ratios(tops, bottoms, resampling=settings_, combination=weights)
    parts = np.array([part.value for part in ratios(tops, bottoms, resampling=settings_)])
    assert [estimate.value for estimate in combined] == pytest.approx((weights @ parts).tolist())


def test_undefined_ratio_spoils_only_measures_that_use_it():
    tops, bottoms = np.ones((4, 2)), np.array([[1.0, 0.0]] * 4)
    used, unused = ratios(
        tops, bottoms, resampling=Resampling(resamples=20), combination=np.array([[1.0, 1.0], [1.0, 0.0]])
    )
    assert np.isnan(used.value)
    assert unused.value == 1.0


def test_paired_difference_is_far_narrower_than_unpaired():
    rng = np.random.default_rng(2)
    world = rng.normal(size=200)
    a, b = world + 0.01 * rng.normal(size=200), world + 0.1 + 0.01 * rng.normal(size=200)
    estimate = paired_difference(a, b, resampling=Resampling())
    assert estimate.low == pytest.approx(0.1, abs=0.01)
    assert estimate.high == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(a, b[:-1], resampling=Resampling())


@pytest.mark.parametrize("size", [8, 120])
def test_intervals_of_clustered_accuracy_cover_the_truth(size):
    rng = np.random.default_rng(3)
    truth, covered, simulations = 0.7, 0, 300
    for seed in range(simulations):
        difficulty = rng.beta(0.7 * 3, 0.3 * 3, size=size)
        won = rng.binomial(4, difficulty).astype(float)[:, None]
        estimate = proportions(won, np.full((size, 1), 4.0), resampling=Resampling(resamples=300, seed=seed))[0]
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / simulations <= 0.99


def test_same_seed_gives_same_interval_and_another_seed_another():
    values = np.random.default_rng(4).random(30)
    first, again, other = (mean(values, resampling=Resampling(resamples=99, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first.low != other.low


def test_general_statistic_of_counts():
    values = np.array([1.0, 2.0, 3.0, 10.0])

    def heaviest(counts):
        return np.where(counts > 0, values, -np.inf).max(axis=1, keepdims=True)

    estimate = bootstrap(heaviest, 4, resampling=Resampling(resamples=200))[0]
    assert (estimate.value, estimate.high) == (10.0, 10.0)
    assert estimate.low < 10.0


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1))
@settings(deadline=None)
def test_sum_by_equals_a_loop(rows):
    group, values = np.array([g for g, _ in rows]), np.array([v for _, v in rows])
    expected = [values[group == g].sum() for g in range(5)]
    assert sum_by(values, group, 5)[:, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("fields", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_senseless_settings_are_refused(fields):
    with pytest.raises(RecipeError, match=next(iter(fields))):
        Resampling(**fields)
