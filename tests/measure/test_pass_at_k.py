import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.pass_at_k import best_temperature, mean_pass_at_k, pass_at_k

FEW = Resampling(resamples=50)


def exact(c, n, k):
    return float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))


@pytest.mark.parametrize(("c", "n"), [(0, 6), (1, 6), (3, 6), (5, 6), (6, 6)])
def test_equals_the_share_of_all_subsets(c, n):
    correct = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        subsets = [any(chosen) for chosen in combinations(correct, k)]
        assert pass_at_k(np.array([c]), n, [k])[0, 0] == pytest.approx(np.mean(subsets))


@given(n=st.integers(1, 3000), data=st.data())
@settings(max_examples=60)
def test_equals_big_integers(n, data):
    c = data.draw(st.integers(0, n))
    ks = sorted(data.draw(st.sets(st.integers(1, n), min_size=1, max_size=4)))
    ours = pass_at_k(np.array([c]), n, ks)[0]
    assert ours == pytest.approx([exact(c, n, k) for k in ks], rel=1e-11, abs=0)


def test_small_rates_keep_their_digits():
    assert pass_at_k(np.array([1]), 1_000_000, [1, 3, 100])[0] == pytest.approx([1e-6, 3e-6, 1e-4], rel=1e-12)


def test_problems_with_their_own_numbers_of_samples():
    c, n = np.array([0, 2, 9, 2, 4]), np.array([5, 5, 10, 8, 4])
    ours = pass_at_k(c, n, [4, 1, 2])
    assert ours == pytest.approx(np.array([[exact(*case, k) for k in (4, 1, 2)] for case in zip(c, n, strict=True)]))
    assert ours[0].tolist() == [0, 0, 0]
    assert not np.signbit(ours).any()


@given(probability=st.floats(0.01, 0.99), n=st.integers(2, 40))
@settings(max_examples=40)
def test_it_is_unbiased_for_every_k(probability, n):
    c = np.arange(n + 1)
    ks = np.arange(1, n + 1)
    expected = stats.binom.pmf(c, n, probability) @ pass_at_k(c, n, ks.tolist())
    assert expected == pytest.approx(1 - (1 - probability) ** ks)


def test_many_k_at_once_with_an_interval_over_problems():
    c = np.random.default_rng(0).binomial(32, 0.2, 50)
    found = mean_pass_at_k(c, 32, ks=[8, 1, 32], resampling=FEW)
    assert found.k.tolist() == [1, 8, 32]
    assert [rate.value for rate in found.rate] == pytest.approx(found.by_problem.mean(axis=0))
    assert found.rate[0].value == pytest.approx(c.mean() / 32)
    assert all(rate.low <= rate.value <= rate.high for rate in found.rate)
    assert found.rate[0].n == 50
    assert (np.diff(found.by_problem, axis=1) >= 0).all()


def test_solving_everything_is_not_certainty():
    rate = mean_pass_at_k(np.full(10, 4), 4, ks=[1], resampling=FEW).rate[0]
    assert rate.value == 1
    assert rate.low < 0.8


@pytest.mark.parametrize(
    ("correct", "samples", "ks", "error", "words"),
    [
        ([3], 2, [1], DataError, "3 of 2 samples of problem 0"),
        ([0, -1], 2, [1], DataError, "-1 of 2 samples of problem 1"),
        ([0], 0, [1], DataError, "0 of 0 samples"),
        ([], 2, [1], DataError, "no problems"),
        ([1], 2, [3], RecipeError, r"k must lie between 1 and 2, .* got \[3\]"),
        ([1], 2, [0], RecipeError, "between 1 and 2"),
        ([1], 2, [], RecipeError, "between 1 and 2"),
    ],
)
def test_what_cannot_be_counted(correct, samples, ks, error, words):
    with pytest.raises(error, match=words):
        pass_at_k(np.array(correct, np.int64), samples, ks)


def test_the_best_temperature_may_differ_between_k():
    # cold solves two thirds of the problems always and the others never; hot solves each in 1 of 8 samples
    cold = np.where(np.arange(60) % 3 < 2, 32, 0)
    found = best_temperature(np.stack([cold, np.full(60, 4)]), 32, temperatures=[0.2, 1.0], ks=[1, 32], resampling=FEW)
    assert found.chosen.tolist() == [[0.2, 1.0]] * 2
    assert [rate.value for rate in found.rate] == pytest.approx([2 / 3, 1])
    assert found.rate[0].low < 2 / 3 < found.rate[0].high
    assert [one.rate[0].value for one in found.by_temperature] == pytest.approx([2 / 3, 1 / 8])


@given(seed=st.integers(0, 500))
@settings(max_examples=10)
def test_each_half_is_measured_with_the_choice_of_the_other(seed):
    rng = np.random.default_rng(seed)
    correct = rng.integers(0, 9, (3, 11))
    found = best_temperature(
        correct, 8, temperatures=[0.5, 1.0, 1.5], ks=[1, 3], resampling=Resampling(resamples=2, seed=seed)
    )
    half = np.random.default_rng(seed).permutation(11) % 2
    for place, k in enumerate([1, 3]):
        total = 0.0
        for side in (0, 1):
            means = [np.mean([exact(int(c), 8, k) for c in row[half != side]]) for row in correct]
            best = int(np.argmax(np.round(means, 12)))
            total += sum(exact(int(c), 8, k) for c in correct[best][half == side])
            assert found.chosen[1 - side, place] == [0.5, 1.0, 1.5][best]
        assert found.rate[place].value == pytest.approx(total / 11)


def test_choosing_among_equals_does_not_flatter():
    rng = np.random.default_rng(7)
    crossed, highest = [], []
    for seed in range(40):
        correct = rng.binomial(1, 0.5, (4, 20))
        found = best_temperature(
            correct,
            1,
            temperatures=list(map(float, range(4))),
            ks=[1],
            resampling=Resampling(resamples=1, seed=seed),
        )
        crossed.append(found.rate[0].value)
        highest.append(max(one.rate[0].value for one in found.by_temperature))
    assert np.mean(highest) > 0.58
    assert np.mean(crossed) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(40 * 20))


def test_temperatures_that_cannot_be_compared():
    counts = np.ones((2, 6), np.int64)
    with pytest.raises(RecipeError, match="3 temperatures for 2 rows"):
        best_temperature(counts, 2, temperatures=[0, 0.5, 1], ks=[1], resampling=FEW)
    with pytest.raises(DataError, match="3 problems; expected four or more"):
        best_temperature(counts[:, :3], 2, temperatures=[0, 1], ks=[1], resampling=FEW)
