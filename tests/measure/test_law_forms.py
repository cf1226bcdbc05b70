import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from trueup.errors import DataError, RecipeError
from trueup.measure.law_forms import Law, at_distances, basis, fit, peaks, solver

FORMS = ("best_of_n", "rl")
D = np.linspace(0.0, 3.0, 13)


def test_values_worked_by_hand():
    assert Law("best_of_n", 0.6, 0.1)(np.array([0.0, 1.0, 2.0])) == pytest.approx([0.0, 0.5, 0.8])
    assert Law("rl", 0.6, 0.1)(np.array([0.0, 1.0, np.e])) == pytest.approx([0.0, 0.6, 0.5 * np.e])


def test_closed_forms_of_the_peak():
    assert Law("best_of_n", 0.6, 0.12).peak() == pytest.approx((2.5, 0.75))
    location, height = Law("rl", 0.35, 0.175).peak()
    assert (location, height) == pytest.approx((np.e, 0.175 * np.e))


@given(st.sampled_from(FORMS), st.floats(0.05, 2.0), st.floats(0.05, 2.0))
@settings(deadline=None, max_examples=50)
def test_peak_equals_a_numerical_maximum_and_gold_is_zero_again_at_the_stated_distance(form, alpha, beta):
    law = Law(form, alpha, beta)
    location, height = law.peak()
    found = optimize.minimize_scalar(lambda d: -law(np.array(d)), bounds=(0, 3 * location), method="bounded")
    assert found.x == pytest.approx(location, rel=1e-3)
    assert law(np.array(location)) == pytest.approx(height)
    zero = alpha / beta if form == "best_of_n" else np.e * location
    assert law(np.array(zero)) == pytest.approx(0.0, abs=1e-9 * max(height, zero))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", [0.0, -0.2])
def test_a_law_that_never_turns_has_no_peak(form, beta):
    assert Law(form, 0.5, beta).peak() is None
    location, height = peaks(np.array([0.5, beta]), form)
    assert np.isinf([location, height]).all()


def test_a_law_that_falls_from_the_start_peaks_there():
    assert Law("best_of_n", -0.3, 0.1).peak() == (0.0, 0.0)


def test_a_nearly_flat_rl_law_has_its_peak_at_infinity_without_a_warning():
    location, _ = Law("rl", 1.0, 1e-6).peak()
    assert np.isinf(location)


@given(st.sampled_from(FORMS), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
@settings(deadline=None, max_examples=50)
def test_noise_free_curves_are_recovered(form, alpha, beta):
    law = fit(D, Law(form, alpha, beta)(D), form=form)
    assert (law.alpha, law.beta) == pytest.approx((alpha, beta), abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_fit_is_least_squares(form):
    gold = np.random.default_rng(0).normal(size=len(D))
    law = fit(D, gold, form=form)
    oracle = np.linalg.lstsq(basis(D, form), gold, rcond=None)[0]
    assert (law.alpha, law.beta) == pytest.approx(tuple(oracle))


@pytest.mark.parametrize("form", FORMS)
def test_whole_number_weights_repeat_points_and_zeros_leave_them_out(form):
    rng = np.random.default_rng(1)
    gold, weights = rng.normal(size=len(D)), rng.integers(0, 4, size=len(D)).astype(float)
    times = weights.astype(int)
    weighted = fit(D, gold, form=form, weights=weights)
    repeated = fit(np.repeat(D, times), np.repeat(gold, times), form=form)
    assert (weighted.alpha, weighted.beta) == pytest.approx((repeated.alpha, repeated.beta))


@pytest.mark.parametrize("form", FORMS)
def test_rescaling_gold_rescales_the_coefficients_and_leaves_the_peak(form):
    gold = Law(form, 0.7, 0.2)(D)
    plain, scaled = fit(D, gold, form=form), fit(D, 5 * gold, form=form)
    assert (scaled.alpha, scaled.beta) == pytest.approx((5 * plain.alpha, 5 * plain.beta))
    assert scaled.peak()[0] == pytest.approx(plain.peak()[0])


def test_bits_rescale_the_best_of_n_coefficients_and_mix_those_of_rl():
    scale = 1 / np.sqrt(np.log(2))
    best_of_n = fit(scale * D, Law("best_of_n", 0.7, 0.2)(D), form="best_of_n")
    assert (best_of_n.alpha, best_of_n.beta) == pytest.approx((0.7 / scale, 0.2 / scale**2))
    rl = fit(scale * D, Law("rl", 0.7, 0.2)(D), form="rl")
    assert rl.beta == pytest.approx(0.2 / scale)
    assert rl.alpha == pytest.approx((0.7 + 0.2 * np.log(scale)) / scale)


def test_cubic_goes_through_zero_and_fits_a_cubic():
    gold = 2 * D - 0.5 * D**2 + 0.1 * D**3
    assert solver(D, "cubic") @ gold == pytest.approx([2, -0.5, 0.1])


def test_too_few_points_are_refused():
    with pytest.raises(RecipeError, match="2 different distances above 0"):
        fit(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0]), form="rl")
    with pytest.raises(RecipeError, match="not negative"):
        fit(D, D, form="rl", weights=-np.ones_like(D))


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_impossible_distances_and_gold_are_refused(bad):
    with pytest.raises(DataError, match="distance 2"):
        fit(np.array([0.0, bad, 1.0]), np.ones(3), form="best_of_n")
    if bad != -0.1:
        with pytest.raises(DataError, match="at d = 1"):
            fit(np.array([0.0, 1.0, 2.0]), np.array([0.0, bad, 1.0]), form="best_of_n")


def test_runs_are_read_off_at_common_distances():
    d, gold = np.array([0.0, 2.0, 1.0]), np.array([0.0, 4.0, 1.0])
    assert at_distances(d, gold, wanted=np.array([0.5, 1.5, 2.0])) == pytest.approx([0.5, 2.5, 4.0])
    with pytest.raises(DataError, match="does not reach"):
        at_distances(d, gold, wanted=np.array([0.5, 2.5]))
