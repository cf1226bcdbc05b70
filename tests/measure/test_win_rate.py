import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling
from trueup.measure.win_rate import decisions, win_rate, wins

TWO = Resampling(resamples=2)
ROWS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=15)


def columns(rows):
    forward, backward, prompt = zip(*rows, strict=True)
    return np.array(forward, np.float64), np.array(backward, np.float64), np.array(prompt, np.int64)


def test_worked_by_hand(few):
    # wins 0.8, 0.5 (the judge takes what stands first) and 0.35
    found = win_rate(np.array([0.8, 0.9, 0.4]), np.array([0.2, 0.9, 0.7]), prompt=np.array([0, 1, 2]), resampling=few)
    assert found.rate.value == pytest.approx(1.65 / 3)
    assert found.decided.value == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.first.value == pytest.approx(2.1 / 3)
    assert found.second.value == pytest.approx((0.8 + 0.1 + 0.3) / 3)
    assert found.ties.value == pytest.approx(1 / 3)
    assert (found.comparisons, found.rate.n) == (3, 3)
    assert found.consistency.position_bias.value == pytest.approx((0 + 0.8 + 0.1) / 3)


@given(ROWS)
@settings(max_examples=25)
def test_the_reference_wins_what_the_policy_does_not(rows):
    forward, backward, prompt = columns(rows)
    ours = win_rate(forward, backward, prompt=prompt, resampling=TWO)
    theirs = win_rate(backward, forward, prompt=prompt, resampling=TWO)
    assert ours.rate.value + theirs.rate.value == pytest.approx(1)
    assert ours.decided.value + theirs.decided.value == pytest.approx(1)
    assert ours.ties.value == pytest.approx(theirs.ties.value)
    assert ours.rate.value == pytest.approx((ours.first.value + ours.second.value) / 2)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_order_does_not_matter(rows, random):
    mixed = random.sample(rows, len(rows))
    a, b = (
        win_rate(*columns(each)[:2], prompt=columns(each)[2], resampling=Resampling(resamples=20))
        for each in (rows, mixed)
    )
    assert a.rate.value == pytest.approx(b.rate.value)
    assert a.rate.low == pytest.approx(b.rate.low, nan_ok=True)


@given(st.floats(0, 1))
@settings(max_examples=15)
def test_a_place_that_is_favoured_gains_nothing(probability):
    forward = np.full(4, probability)
    found = win_rate(forward, forward, prompt=np.arange(4), resampling=TWO)
    assert found.rate.value == pytest.approx(0.5)
    assert found.decided.value == 0.5
    assert found.ties.value == 1


def test_bradley_terry_is_the_mean_of_sigmoids(few):
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(0.4, 1, 200), rng.normal(0, 1, 200)
    forward, backward = special.expit(ours - theirs), special.expit(theirs - ours)
    found = win_rate(forward, backward, prompt=np.arange(200), resampling=few)
    assert found.rate.value == pytest.approx(np.mean(1 / (1 + np.exp(theirs - ours))))
    assert found.decided.value == np.mean(ours > theirs)
    assert found.ties.value == 0


def test_the_interval_is_the_students_for_a_mean_over_prompts():
    forward = np.random.default_rng(2).uniform(0.2, 0.9, 120)
    found = win_rate(forward, 1 - forward, prompt=np.arange(120), resampling=Resampling(resamples=4000))
    low, high = stats.t.interval(0.95, 119, forward.mean(), stats.sem(forward))
    assert found.rate.low == pytest.approx(low, abs=0.003)
    assert found.rate.high == pytest.approx(high, abs=0.003)


def test_samples_of_one_prompt_are_not_independent():
    forward = np.random.default_rng(3).random(20)
    resampling = Resampling(resamples=200)
    alone = win_rate(forward, 1 - forward, prompt=np.arange(20), resampling=resampling)
    copied = np.tile(forward, 8)
    again = win_rate(copied, 1 - copied, prompt=np.tile(np.arange(20), 8), resampling=resampling)
    assert (again.comparisons, again.rate.n) == (160, 20)
    assert again.rate.high - again.rate.low == pytest.approx(alone.rate.high - alone.rate.low)


def test_winning_every_time_is_not_certainty(few):
    found = win_rate(np.ones(10), np.zeros(10), prompt=np.arange(10), resampling=few)
    assert found.rate.value == 1
    assert 0.6 < found.rate.low < 0.8  # Wilson: 0.722


def test_rounding_does_not_make_a_winner():
    forward = np.array([0.1 + 0.2, 0.7])
    assert decisions(wins(forward, np.array([0.3, 0.7]))).tolist() == [0.5, 0.5]


def test_what_is_no_probability_is_named(few):
    with pytest.raises(DataError, match=r"field `forward`: nan for comparison 0"):
        win_rate(np.array([np.nan]), np.array([0.5]), prompt=np.array([0]), resampling=few)
