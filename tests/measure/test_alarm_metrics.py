import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.measure.alarm_metrics import auroc_difference, auroc_estimate, reliability
from trueup.measure.bootstrap import Resampling


def auroc(scores, labels):
    unit = np.zeros(len(labels), int)
    return auroc_estimate(scores.astype(float), labels, unit, resampling=Resampling(resamples=1)).value


def by_pairs(scores, labels):
    wins = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in np.flatnonzero(labels == 1)
        for j in np.flatnonzero(labels == 0)
    ]
    return np.mean(wins) if wins else np.nan


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=25)


@given(POINTS)
def test_auroc_counts_pairs_with_ties(points):
    scores, labels, _ = (np.array(column) for column in zip(*points, strict=True))
    assert auroc(scores, labels) == pytest.approx(by_pairs(scores, labels), nan_ok=True)


def test_auroc_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 300)
    scores = np.round(generator.standard_normal(300) + labels, 1)
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))


@given(POINTS)
def test_the_estimate_is_over_all_pairs_whatever_the_units(points):
    scores, labels, unit = (np.array(column) for column in zip(*points, strict=True))
    unit = np.unique(unit, return_inverse=True)[1]
    found = auroc_estimate(scores.astype(float), labels, unit, resampling=Resampling(resamples=20))
    assert found.value == pytest.approx(by_pairs(scores, labels), nan_ok=True)


def test_the_interval_resamples_units():
    generator = np.random.default_rng(1)
    unit = np.repeat(np.arange(12), 10)
    labels = np.tile(np.repeat([0, 1], 5), 12)
    scores = generator.standard_normal(120) + labels + 3 * generator.standard_normal(12)[unit]
    resampling = Resampling(resamples=400)
    by_unit = auroc_estimate(scores, labels, unit, resampling=resampling)
    draws = []
    for _ in range(400):
        drawn = np.concatenate([np.flatnonzero(unit == u) for u in generator.integers(0, 12, 12)])
        draws.append(auroc(scores[drawn], labels[drawn]))
    assert by_unit.low < np.quantile(draws, 0.2) < np.quantile(draws, 0.8) < by_unit.high
    assert by_unit.high - by_unit.low == pytest.approx(np.ptp(np.quantile(draws, [0.02, 0.98])), rel=0.3)
    assert by_unit.n == 12


def test_scores_that_rank_alike_do_not_differ():
    generator = np.random.default_rng(2)
    unit, labels = np.repeat(np.arange(6), 8), generator.integers(0, 2, 48)
    scores = generator.standard_normal(48) + labels
    found = auroc_difference((np.exp(scores), scores), labels, unit, resampling=Resampling(resamples=50))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_paired_difference_is_narrower_than_its_parts():
    generator = np.random.default_rng(3)
    unit, labels = np.repeat(np.arange(20), 10), np.tile([0, 1], 100)
    shared = generator.standard_normal(200) + 0.5 * labels
    one, two = (shared + 0.1 * generator.standard_normal(200) for _ in range(2))
    resampling = Resampling(resamples=300)
    apart = auroc_estimate(one, labels, unit, resampling=resampling)
    found = auroc_difference((one, two), labels, unit, resampling=resampling)
    assert found.value == pytest.approx(auroc(one, labels) - auroc(two, labels))
    assert found.high - found.low < (apart.high - apart.low) / 2


def test_without_both_labels_there_is_no_auroc():
    found = auroc_estimate(np.arange(4.0), np.zeros(4, int), np.arange(4), resampling=Resampling(resamples=20))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_reliability_of_a_hand_worked_example():
    probability = np.array([0.1, 0.1, 0.3, 0.3, 0.8, 0.8])
    labels = np.array([0, 0, 1, 0, 1, 1])
    error, bins = reliability(probability, labels, np.arange(6), bins=3, resampling=Resampling(resamples=20))
    assert [(b.confidence, b.accuracy, b.n) for b in bins] == [
        (pytest.approx(0.1), 0.0, 2),
        (pytest.approx(0.3), 0.5, 2),
        (pytest.approx(0.8), 1.0, 2),
    ]
    assert error.value == pytest.approx((0.1 + 0.2 + 0.2) / 3)


def test_true_probabilities_are_calibrated_and_exaggerated_ones_are_not():
    generator = np.random.default_rng(4)
    truth = generator.uniform(0.05, 0.95, 4000)
    labels, unit = (generator.random(4000) < truth).astype(int), np.repeat(np.arange(100), 40)
    resampling = Resampling(resamples=100)
    honest, bins = reliability(truth, labels, unit, bins=10, resampling=resampling)
    loud, _ = reliability(np.where(truth > 0.5, 0.99, 0.01), labels, unit, bins=10, resampling=resampling)
    assert honest.value < 0.03 < 0.2 < loud.low
    assert sum(b.low <= b.confidence <= b.high for b in bins) >= 8


def test_equal_probabilities_share_one_bin():
    error, bins = reliability(
        np.full(8, 0.5), np.tile([0, 1], 4), np.arange(8), bins=10, resampling=Resampling(resamples=20)
    )
    assert len(bins) == 1
    assert error.value == 0
