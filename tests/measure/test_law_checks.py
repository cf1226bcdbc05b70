import numpy as np
import pytest

from measure.law_simulations import D, pools, prompt_curves
from trueup.errors import RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.law_checks import against_rival, compare_forms, forecast_errors, held_out
from trueup.measure.laws import Law, fit

FEW = Resampling(resamples=300)
BOUND = 1.6


@pytest.mark.parametrize("law", [Law("best_of_n", 0.6, 0.2), Law("rl", 0.6, 0.4)], ids=lambda law: law.form)
def test_a_true_law_predicts_the_rest_exactly_and_the_other_one_does_not(law):
    gold = np.array([[1.0], [2.0]]) + law(D)
    right = held_out(D, gold, form=law.form, fit_up_to=BOUND, resampling=FEW)
    assert [right.rms.value, right.end_error.value] == pytest.approx([0, 0], abs=1e-12)
    assert (right.law.alpha, right.law.beta) == pytest.approx((law.alpha, law.beta))
    other = "rl" if law.form == "best_of_n" else "best_of_n"
    assert held_out(D, gold, form=other, fit_up_to=BOUND, resampling=FEW).relative_rms > 0.05


def test_errors_are_those_worked_out_step_by_step():
    gold = prompt_curves(Law("best_of_n", 0.6, 0.2), np.random.default_rng(0), units=30)
    found = held_out(D, gold, form="rl", fit_up_to=BOUND, resampling=FEW)
    mean = gold.mean(axis=0) - gold[:, 0].mean()
    near = D <= BOUND
    errors = fit(D[near], mean[near], form="rl")(D) - mean
    assert found.rms.value == pytest.approx(np.sqrt(np.mean(errors[~near] ** 2)))
    assert found.end_error.value == pytest.approx(errors[-1])
    assert found.constant_rms.value == pytest.approx(np.sqrt(np.mean((mean[near][-1] - mean[~near]) ** 2)))
    assert found.gold_range == pytest.approx(mean.max() - mean.min())
    assert found.relative_rms == pytest.approx(found.rms.value / found.gold_range)
    assert (found.fitted, found.predicted) == (near.sum() - 1, (~near).sum())
    assert found.gain_over_cubic.value == pytest.approx(found.cubic_rms.value - found.rms.value)
    assert found.gain_over_constant.value == pytest.approx(found.constant_rms.value - found.rms.value)


def test_a_cubic_predicts_a_cubic():
    gold = (2 * D - D**2 + 0.2 * D**3)[None]
    assert forecast_errors(gold, D, BOUND >= D, form="cubic") == pytest.approx(0, abs=1e-9)


def test_the_law_extrapolates_noisy_curves_better_than_a_cubic_does():
    gains = []
    for seed in range(60):
        gold = prompt_curves(Law("best_of_n", 0.6, 0.2), np.random.default_rng(seed), units=60)
        found = held_out(D, gold, form="best_of_n", fit_up_to=BOUND, resampling=Resampling(resamples=20))
        gains.append(found.gain_over_cubic.value)
    assert np.mean(gains) > 0


def test_the_signed_error_at_the_end_is_unbiased_and_covered_when_the_law_is_true():
    law, covered, errors = Law("best_of_n", 0.6, 0.2), 0, []
    for seed in range(400):
        gold = prompt_curves(law, np.random.default_rng(seed), units=60)
        resampling = Resampling(resamples=300, seed=seed)
        found = held_out(D, gold, form="best_of_n", fit_up_to=BOUND, resampling=resampling).end_error
        covered += found.low <= 0 <= found.high
        errors.append(found.value)
    assert 0.92 <= covered / 400 <= 0.98
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 20


def test_nothing_left_to_predict_is_refused():
    with pytest.raises(RecipeError, match="nothing to predict"):
        held_out(D, np.ones((3, len(D))), form="rl", fit_up_to=99.0, resampling=FEW)


def test_two_near_points_make_no_cubic():
    d = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    found = held_out(d, np.tile(d, (3, 1)), form="best_of_n", fit_up_to=1.0, resampling=FEW)
    assert np.isnan([found.cubic_rms.value, found.gain_over_cubic.low]).all()
    assert found.rms.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("law", [Law("best_of_n", 0.6, 0.2), Law("rl", 0.6, 0.4)], ids=lambda law: law.form)
def test_the_law_that_made_the_curves_is_preferred(law):
    gold = prompt_curves(law, np.random.default_rng(1), units=400, noise=0.05)
    found = compare_forms(D, gold, resampling=FEW)
    assert found.better == law.form
    assert found.difference.value == pytest.approx(found.rl - found.best_of_n)


def test_a_heavy_tail_prefers_the_best_of_n_law():
    rng = np.random.default_rng(2)
    gold = pools(rng, lambda size: 0.7 * rng.standard_t(3, size=size), prompts=300)
    found = compare_forms(D, gold, resampling=FEW)
    assert found.better == "best_of_n"
    assert found.best_of_n < 0.7 * found.rl


def test_neither_law_is_preferred_when_both_fit_within_the_noise():
    rng = np.random.default_rng(3)
    gold = pools(rng, rng.standard_normal, prompts=100)
    assert compare_forms(D, gold, resampling=FEW).better == "cannot tell"


def test_a_rival_is_judged_on_the_same_points():
    """In range it agrees with `compare_forms`, ahead with `held_out`."""
    gold = prompt_curves(Law("rl", 0.6, 0.4), np.random.default_rng(2), units=30)
    whole = against_rival(D, gold, form="rl", rival="best_of_n", resampling=FEW)
    forms = compare_forms(D, gold, resampling=FEW)
    assert (whole.rms.value, whole.rival_rms.value) == pytest.approx((forms.rl, forms.best_of_n))
    assert (whole.gain.value, whole.gain.low) == pytest.approx(
        (-forms.difference.value, -forms.difference.high), abs=0.01
    )
    assert whole.gain.low > 0
    ahead = against_rival(D, gold, form="rl", rival="cubic", resampling=FEW, fit_up_to=BOUND)
    known = held_out(D, gold, form="rl", fit_up_to=BOUND, resampling=FEW)
    assert (ahead.rms, ahead.rival_rms, ahead.gain) == (known.rms, known.cubic_rms, known.gain_over_cubic)


def test_a_curve_of_the_rejected_form_is_its_own_best_fit():
    gold = np.array([[1.0], [2.0]]) + D * (0.9 - 0.6 * np.log(1 + D))
    found = against_rival(D, gold, form="rl", rival="log1p", resampling=FEW)
    assert found.rival_rms.value == pytest.approx(0, abs=1e-12)
    assert found.gain.value == pytest.approx(-found.rms.value)
    assert found.rms.value > 0.01


def test_nothing_to_predict_is_said():
    with pytest.raises(RecipeError, match="leaves nothing to predict"):
        against_rival(D, D[None], form="rl", rival="log1p", resampling=FEW, fit_up_to=99.0)
