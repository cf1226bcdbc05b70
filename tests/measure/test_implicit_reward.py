import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.implicit_reward import LogRatio, implicit_reward, implicit_split

PAIRS = np.array([[0, 1], [2, 3], [5, 4]])
PROMPT = np.array([0, 0, 1, 1, 2, 2])
KNOWN = {"prompt": PROMPT, "pairs": PAIRS, "length": np.array([3, 4, 5, 6, 7, 8])}


def measure(policy, reference, resampling, implicit=None, **fields):
    values = {**KNOWN, **fields}
    return implicit_reward(
        np.array(policy, np.float64),
        np.array(reference, np.float64),
        implicit=implicit or LogRatio(0.5),
        resampling=resampling,
        **values,
    )


def test_worked_by_hand(few):
    # log-ratios 2, 0 | -1, -3 | 1, 1; the last pair ties
    found = measure([-3, -5, -6, -6, -4, -5], [-5, -5, -5, -3, -5, -6], few)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.ties == 1
    assert found.margin.value == pytest.approx(0.5 * (2 + 2 + 0) / 3)
    assert found.chosen.value == pytest.approx((2 - 1 + 1) / 3)
    assert found.rejected.value == pytest.approx((0 - 3 + 1) / 3)
    assert found.chosen_less_likely.value == pytest.approx(1 / 3)
    assert found.reference_accuracy.value == 0
    assert found.reference_accuracy.high > 0.3  # Wilson's interval of none of three
    assert found.calibration.nll.value == pytest.approx((2 * np.log1p(np.exp(-1)) + np.log(2)) / 3)
    assert found.accuracy.n == 3


@given(st.integers(0, 999), st.floats(0.05, 5))
@settings(max_examples=12)
def test_the_optimum_of_a_reward_gives_the_reward_back(seed, beta):
    """pi* = pi_ref exp(r / beta) / Z for each prompt, so that margins are those of r."""
    rng = np.random.default_rng(seed)
    reference = log_softmax(rng.normal(0, 2, (3, 2)), axis=1)
    reward = rng.normal(0, 2, (3, 2))
    policy = log_softmax(reference + reward / beta, axis=1)
    split = implicit_split(policy.ravel(), reference.ravel(), implicit=LogRatio(beta), **KNOWN)
    flat = reward.ravel()
    assert split.margin == pytest.approx(flat[PAIRS[:, 0]] - flat[PAIRS[:, 1]], abs=1e-9)


@given(st.integers(0, 999), st.floats(-50, 50))
@settings(max_examples=12)
def test_a_constant_for_each_prompt_changes_no_margin(seed, constant):
    policy, reference = -np.random.default_rng(seed).exponential(9, (2, 6))
    two = Resampling(resamples=2)
    shifted = measure(policy, reference + constant * PROMPT, two)
    ours = measure(policy, reference, two)
    assert shifted.accuracy.value == ours.accuracy.value
    assert shifted.margin.value == pytest.approx(ours.margin.value)


def test_the_methods_own_implicit_reward_is_used(few):
    length = np.array([1.0, 9, 1, 9, 1, 9])
    policy = np.array([-2.0, -9, -2, -9, -9, -2])
    by_length = measure(policy, policy, few, implicit=lambda pi, _: pi / length, length=length)
    # -2 against -1, twice, and -2/9 against -9
    assert by_length.accuracy.value == pytest.approx(1 / 3)
    assert measure(policy, policy, few).ties == 3


def test_calibration_sees_a_beta_that_claims_too_much():
    rng = np.random.default_rng(2)
    margin = rng.normal(0, 1.5, 4000)
    won = rng.random(4000) < expit(margin)
    policy = np.stack([np.where(won, margin, -margin), np.zeros(4000)], axis=1).ravel()
    fields = {
        "prompt": np.repeat(np.arange(4000), 2),
        "pairs": np.arange(8000).reshape(-1, 2),
        "length": np.ones(8000),
    }
    few = Resampling(resamples=60)
    right = measure(policy, np.zeros(8000), few, implicit=LogRatio(1.0), **fields)
    bold = measure(policy, np.zeros(8000), few, implicit=LogRatio(3.0), **fields)
    assert right.calibration.overconfidence.value == pytest.approx(0, abs=0.03)
    assert right.calibration.ece.value < 0.04
    assert bold.calibration.overconfidence.low > 0.1
    assert bold.accuracy == right.accuracy
    assert bold.calibration.nll.value > right.calibration.nll.value
    assert right.accuracy.value == pytest.approx(np.mean(expit(np.abs(margin))), abs=0.03)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_beta_must_be_positive(beta):
    with pytest.raises(RecipeError, match="beta must be positive and finite"):
        LogRatio(beta)


def test_what_cannot_be_measured_is_named(few):
    fine = [-1.0] * 6
    with pytest.raises(DataError, match=r"field `reference`: -inf for branch 2"):
        measure(fine, [-1, -1, -np.inf, -1, -1, -1], few)
    with pytest.raises(DataError, match=r"field `policy`: nan for branch 0"):
        measure([np.nan] * 6, fine, few)
    with pytest.raises(DataError, match="there are no pairs"):
        measure(fine, fine, few, pairs=np.zeros((0, 2), np.int64))
    with pytest.raises(RecipeError, match="one finite number for each of 6 branches"):
        measure(fine, fine, few, implicit=lambda pi, ref: (pi - ref)[:3])
