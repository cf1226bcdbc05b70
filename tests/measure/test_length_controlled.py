import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.length_controlled import length_controlled

TWO = Resampling(resamples=2)


def lengths(seed, n, mean=60.0):
    return np.random.default_rng(seed).normal(mean, 100, n).round()


def model(difference, theta, phi):
    return expit(theta + phi * np.tanh(difference / difference.std()))


def controlled(win, difference, resampling=TWO, **settings):
    return length_controlled(win, difference, prompt=np.arange(len(win)), resampling=resampling, **settings)


def test_where_length_alone_decides_the_rate_is_one_half():
    difference = lengths(0, 400)
    found = controlled(model(difference, 0, 2.5), difference)
    assert found.plain.value > 0.65
    assert found.rate.value == pytest.approx(0.5, abs=1e-4)
    assert found.effect.value == pytest.approx(2.5, rel=1e-3)
    assert found.change.value == pytest.approx(0.5 - found.plain.value, abs=1e-4)


@given(rate=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_without_an_effect_of_length_it_is_the_plain_rate(rate, seed):
    found = controlled(np.full(300, rate), lengths(seed, 300))
    assert found.rate.value == pytest.approx(rate, abs=1e-4)
    assert found.change.value == pytest.approx(0, abs=1e-4)
    assert found.effect.value == pytest.approx(0, abs=1e-3)


@given(theta=st.floats(-1.5, 1.5), phi=st.floats(-2, 2), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_a_planted_effect_is_recovered(theta, phi, seed):
    difference = lengths(seed, 500)
    found = controlled(model(difference, theta, phi), difference)
    assert found.rate.value == pytest.approx(expit(theta), abs=1e-3)
    assert found.effect.value == pytest.approx(phi, abs=5e-3)
    assert found.scale == pytest.approx(difference.std())


@given(st.integers(0, 999), st.floats(0.01, 100))
@settings(max_examples=12)
def test_sides_and_units_of_length_are_conventions(seed, unit):
    rng = np.random.default_rng(seed)
    win, difference = rng.random(40), rng.integers(-50, 60, 40)
    ours = controlled(win, difference)
    assert controlled(win, difference * unit).rate.value == pytest.approx(ours.rate.value, abs=1e-6)
    theirs = controlled(1 - win, -difference)
    assert theirs.rate.value == pytest.approx(1 - ours.rate.value, abs=1e-6)
    assert theirs.effect.value == pytest.approx(ours.effect.value, abs=1e-5)


def test_equals_scikit_learn_on_decided_comparisons():
    difference = lengths(4, 500)
    win = (np.random.default_rng(4).random(500) < model(difference, 0.3, -1)).astype(float)
    ours = controlled(win, difference)
    theirs = LogisticRegression(C=1e6, tol=1e-10).fit(np.tanh(difference / difference.std())[:, None], win)
    assert ours.rate.value == pytest.approx(expit(theirs.intercept_[0]), abs=1e-4)
    assert ours.effect.value == pytest.approx(theirs.coef_[0, 0], abs=1e-3)


def test_the_interval_is_that_of_the_information_matrix():
    difference = lengths(5, 500)
    truth = model(difference, 0.4, 1.0)
    win = (np.random.default_rng(5).random(500) < truth).astype(float)
    found = controlled(win, difference, Resampling(resamples=250))
    design = np.c_[np.ones(500), np.tanh(difference / difference.std())]
    information = (design.T * (truth * (1 - truth))) @ design
    slope = expit(0.4) * expit(-0.4)
    half = 1.96 * np.sqrt(np.linalg.inv(information)[0, 0]) * slope
    assert found.rate.low < expit(0.4) < found.rate.high
    assert (found.rate.high - found.rate.low) / 2 == pytest.approx(half, rel=0.2)
    assert found.effect.low < 1.0 < found.effect.high
    assert found.change.high < 0  # length had helped


def test_prompts_are_what_is_resampled(few):
    difference = lengths(6, 25)
    win = np.random.default_rng(6).random(25)
    alone = controlled(win, difference, few)
    copied = length_controlled(
        np.tile(win, 4), np.tile(difference, 4), prompt=np.tile(np.arange(25), 4), resampling=few, penalty=4e-3
    )
    assert copied.rate.n == 25
    assert copied.rate.low == pytest.approx(alone.rate.low, abs=1e-3)
    assert copied.rate.high == pytest.approx(alone.rate.high, abs=1e-3)


def test_equal_lengths_leave_the_plain_rate():
    found = controlled(np.array([1, 1, 0, 1.0]), np.zeros(4))
    assert found.rate.value == pytest.approx(0.75, abs=1e-3)
    assert np.isnan(found.effect.value)
    assert (found.shorter, found.longer) == (1, 1)


def test_one_difference_throughout_cannot_be_told_from_quality():
    found = controlled(np.array([1, 1, 0, 1.0]), np.full(4, 7))
    assert np.isnan([found.rate.value, found.change.value, found.effect.value]).all()
    assert found.plain.value == 0.75
    assert (found.shorter, found.longer) == (0, 1)


def test_a_length_that_separates_wins_from_losses_is_finite():
    difference = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
    found = controlled((difference > 0).astype(float), difference, Resampling(resamples=20))
    assert found.effect.value > 3
    assert found.rate.value == pytest.approx(0.5, abs=1e-6)
    assert np.isfinite([found.rate.low, found.rate.high]).all()


def test_what_cannot_be_used_is_named():
    with pytest.raises(DataError, match=r"field `win`: 1.5 for comparison 1"):
        controlled(np.array([0.5, 1.5]), np.zeros(2))
    with pytest.raises(DataError, match=r"field `difference`: inf for comparison 0"):
        controlled(np.array([0.5, 0.5]), np.array([np.inf, 1]))
    with pytest.raises(DataError, match="no comparisons"):
        controlled(np.zeros(0), np.zeros(0))
    with pytest.raises(RecipeError, match="penalty must be positive"):
        controlled(np.ones(2), np.zeros(2), penalty=0.0)
