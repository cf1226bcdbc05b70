import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from trueup.measure.logistic import fit_logistic, platt


def objective(at, x, t, *, m, penalty):
    z = x @ at[:-1] + at[-1]
    entropy = -special.xlogy(t, special.expit(z)) - special.xlogy(1 - t, special.expit(-z))
    return (m * entropy).sum() + penalty / 2 * (at[:-1] ** 2).sum() + 0.0005 * at[-1] ** 2


def problem(seed, points=60, features=3):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((points, features))
    truth = generator.standard_normal(features)
    t = (generator.random(points) < special.expit(x @ truth - 0.5)).astype(float)
    return x, t, generator.uniform(0.2, 2.0, points)


@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.01, 1.0, 30.0]))
def test_agrees_with_a_general_minimiser(seed, penalty):
    x, t, m = problem(seed, points=30)
    ours = fit_logistic(x, t, point_weights=m, penalty=penalty)
    theirs = optimize.minimize(
        lambda at: objective(at, x, t, m=m, penalty=penalty), np.zeros(4), method="BFGS", options={"gtol": 1e-7}
    )
    assert np.r_[ours.weights, ours.bias] == pytest.approx(theirs.x, abs=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_by_finite_differences_is_zero(seed):
    x, t, m = problem(seed)
    fit = fit_logistic(x, t, point_weights=m, penalty=0.5)
    at = np.r_[fit.weights, fit.bias]
    slopes = optimize.approx_fprime(at, lambda point: objective(point, x, t, m=m, penalty=0.5), 1e-6)
    assert np.abs(slopes).max() < 1e-4


def test_without_features_it_is_the_log_odds_of_the_mean():
    fit = fit_logistic(np.zeros((8, 0)), np.array([1.0] * 6 + [0.0] * 2), point_weights=np.ones(8), penalty=0.0)
    assert fit.bias == pytest.approx(math.log(3), abs=2e-3)


def test_one_binary_feature_has_a_closed_form():
    # P(y | x = 0) = 1/4 and P(y | x = 1) = 3/4: the bias is -log 3, the weight 2 log 3
    x = np.repeat([0.0, 1.0], 400)[:, None]
    t = np.tile(np.repeat([1.0, 0.0], [100, 300]), 2)
    t[400:] = np.repeat([1.0, 0.0], [300, 100])
    fit = fit_logistic(x, t, point_weights=np.ones(800), penalty=0.0)
    assert fit.bias == pytest.approx(-math.log(3), abs=1e-4)
    assert fit.weights[0] == pytest.approx(2 * math.log(3), abs=1e-4)


def test_a_weight_of_two_is_two_points():
    x, t, _ = problem(1)
    once = fit_logistic(np.r_[x, x[:10]], np.r_[t, t[:10]], point_weights=np.ones(70), penalty=1.0)
    twice = fit_logistic(x, t, point_weights=np.r_[np.full(10, 2.0), np.ones(50)], penalty=1.0)
    assert once.weights == pytest.approx(twice.weights, abs=1e-6)


def test_a_strong_ridge_leaves_the_bias_alone():
    x, t, m = problem(2)
    fit = fit_logistic(x, t, point_weights=m, penalty=1e9)
    assert np.abs(fit.weights).max() < 1e-6
    assert special.expit(fit.bias) == pytest.approx(np.average(t, weights=m), abs=1e-3)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_and_separable_data_have_finite_fits(label):
    x = np.linspace(-1, 1, 20)[:, None]
    one_class = fit_logistic(x, np.full(20, label), point_weights=np.ones(20), penalty=1.0)
    separable = fit_logistic(x, (x[:, 0] > 0).astype(float), point_weights=np.ones(20), penalty=1e-6)
    assert np.isfinite([one_class.bias, *one_class.weights, *separable.weights]).all()
    assert (special.expit(one_class.log_odds(x)) > 0.5).all() == (label == 1.0)


def test_platt_finds_the_scores_true_scale():
    generator = np.random.default_rng(3)
    truth = generator.normal(0, 2, 20_000)
    labels = (generator.random(20_000) < special.expit(truth)).astype(float)
    slope, bias = platt(truth / 4 + 1, labels, point_weights=np.ones(20_000))
    assert slope == pytest.approx(4, rel=0.05)
    assert bias == pytest.approx(-4, rel=0.05)


def test_platt_is_not_certain_of_separable_scores():
    scores = np.r_[np.full(10, -5.0), np.full(10, 5.0)]
    slope, bias = platt(scores, (scores > 0).astype(float), point_weights=np.ones(20))
    assert special.expit(slope * 5 + bias) == pytest.approx(11 / 12, abs=1e-3)
    assert special.expit(slope * -5 + bias) == pytest.approx(1 / 12, abs=1e-3)


def test_platt_does_not_turn_the_order_round():
    scores = np.linspace(-3, 3, 40)
    slope, bias = platt(scores, (scores < 1).astype(float), point_weights=np.ones(40))
    assert slope > 0
    assert special.expit(slope * scores + bias).mean() == pytest.approx((scores < 1).mean(), abs=0.03)
