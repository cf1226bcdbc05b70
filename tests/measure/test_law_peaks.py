import numpy as np
import pytest

from measure.law_simulations import D, prompt_curves
from trueup.measure.bootstrap import Resampling
from trueup.measure.law_peaks import cross_fitted, observed_peak
from trueup.measure.laws import Law

FEW = Resampling(resamples=200)


def test_each_unit_is_read_where_the_half_without_it_is_highest():
    units = np.random.default_rng(0).normal(size=(4, 5))
    found = cross_fitted(units, candidates=np.ones(5, bool), seed=0)
    halves = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    allowed = []
    for half in halves:
        rest = [i for i in range(4) if i not in half]
        here, there = np.argmax(units[list(half)].sum(axis=0)), np.argmax(units[rest].sum(axis=0))
        allowed.append([units[i, there if i in half else here] for i in range(4)])
    assert found.shape == (20, 4)
    assert all(any(np.allclose(row, each) for each in allowed) for row in found)
    assert len(np.unique(found, axis=0)) > 1


def test_only_candidates_are_chosen():
    units = np.random.default_rng(1).normal(size=(40, 4)) + np.array([0, 1, 0, 9])
    found = cross_fitted(units, candidates=np.array([True, False, True, False]), seed=3)
    low, high = np.minimum(units[:, 0], units[:, 2]), np.maximum(units[:, 0], units[:, 2])
    assert np.all((low - 1e-12 <= found) & (found <= high + 1e-12))


def test_a_clear_peak_is_found_where_it_is():
    law = Law("best_of_n", 2.0, 0.8)
    gold = prompt_curves(law, np.random.default_rng(2), units=100, noise=0.05)
    peak = observed_peak(D, gold, resampling=FEW)
    best = int(np.argmax(law(D)))
    assert peak.d.low <= D[best] <= peak.d.high
    assert peak.gold.low <= law(D)[best] <= peak.gold.high
    assert peak.fall.low > 0
    assert peak.fall.value == pytest.approx(law(D)[best] - law(D)[-1], abs=0.3)


def test_flat_curves_flatter_the_naive_maximum_and_not_ours():
    ours, naive, covered = [], [], 0
    for seed in range(400):
        noise = np.random.default_rng(seed).normal(size=(40, len(D)))
        noise[:, 0] = 0.0
        peak = observed_peak(D, noise, resampling=Resampling(resamples=200, seed=seed))
        ours.append(peak.gold.value)
        naive.append(peak.naive)
        covered += peak.gold.low <= 0 <= peak.gold.high
    error = np.std(ours) / np.sqrt(400)
    assert abs(np.mean(ours)) < 3 * error
    assert np.mean(naive) > 0.2
    assert 0.92 <= covered / 400 <= 0.995


def test_around_a_true_peak_ours_is_not_above_it_and_the_naive_one_is():
    law = Law("best_of_n", 0.6, 0.2)
    peaks = [
        observed_peak(D, prompt_curves(law, np.random.default_rng(seed), units=30), resampling=Resampling(resamples=20))
        for seed in range(600)
    ]
    top = law(D).max()
    ours, naive = np.array([peak.gold.value for peak in peaks]), np.array([peak.naive for peak in peaks])
    assert ours.mean() <= top + 2 * ours.std() / np.sqrt(600)
    assert ours.mean() >= top - 0.06
    assert naive.mean() >= top + 3 * naive.std() / np.sqrt(600)


def test_one_unit_chooses_for_nobody():
    peak = observed_peak(D, Law("rl", 0.6, 0.4)(D)[None], resampling=FEW)
    assert np.isnan([peak.gold.value, peak.fall.low, peak.d.low]).all()
    assert peak.naive == Law("rl", 0.6, 0.4)(D).max()


@pytest.mark.parametrize("worlds", [3, 5])
def test_worlds_that_differ_give_false_falls_rarely(worlds):
    labels, falls = np.repeat(np.arange(worlds), 4), 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        gold = rng.normal(size=(worlds, len(D)))[labels] + 0.1 * rng.normal(size=(4 * worlds, len(D)))
        peak = observed_peak(D, gold, resampling=Resampling(resamples=20, seed=seed), groups=labels)
        assert peak.gold.n == worlds
        falls += peak.fall.low > 0
    assert falls <= 0.05 * 400
