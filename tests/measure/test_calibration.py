import numpy as np
import pytest
from scipy.special import expit, logit

from trueup.measure.bootstrap import Resampling
from trueup.measure.calibration import bin_edges, calibration


def _simulated(make_split, *, scale, pairs=4000, seed=0):
    """Labels follow sigmoid(true margin); the reported margin is `scale` times it."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, pairs)
    chosen_first = rng.random(pairs) < expit(true)
    margin = np.where(chosen_first, true, -true) * scale
    return make_split(np.stack([margin, np.zeros(pairs)], axis=1).tolist())


def test_hand_worked_bins(make_split, few):
    margins = [float(logit(p)) for p in (0.9, 0.9, 0.1, 0.65)]
    ours = calibration(make_split([[margin, 0.0] for margin in margins]), resampling=few, bins=5, adaptive=False)
    assert [b.n for b in ours.curve] == [1, 3]
    assert [b.confidence for b in ours.curve] == pytest.approx([0.65, 0.9])
    assert [b.accuracy for b in ours.curve] == pytest.approx([1, 2 / 3])
    assert ours.ece.value == pytest.approx((abs(0.65 - 1) + 3 * abs(0.9 - 2 / 3)) / 4)
    assert ours.confidence.value == pytest.approx(0.8375)
    assert ours.overconfidence.value == pytest.approx(0.8375 - 0.75)
    assert ours.nll.value == pytest.approx(-np.mean(np.log([0.9, 0.9, 0.1, 0.65])))


def test_calibrated_rewards_have_no_error_beyond_noise(make_split):
    ours = calibration(_simulated(make_split, scale=1.0), resampling=Resampling(resamples=200))
    assert ours.ece.value < 0.025
    assert ours.ece.value < 2 * ours.ece_if_calibrated
    assert ours.overconfidence.low <= 0 <= ours.overconfidence.high
    assert all(b.low - 0.01 <= b.confidence <= b.high + 0.01 for b in ours.curve)


@pytest.mark.parametrize(("scale", "sign"), [(3.0, 1), (0.3, -1)])
def test_scaled_rewards_are_over_or_under_confident(make_split, scale, sign):
    ours = calibration(_simulated(make_split, scale=scale), resampling=Resampling(resamples=200))
    assert min(sign * ours.overconfidence.low, sign * ours.overconfidence.high) > 0.05
    assert ours.ece.low > 4 * ours.ece_if_calibrated
    assert ours.ece.value == pytest.approx(abs(ours.overconfidence.value), abs=0.02)


def test_noise_floor_is_the_mean_error_of_calibrated_simulations(make_split):
    few = Resampling(resamples=2)
    found = [calibration(_simulated(make_split, scale=1.0, pairs=800, seed=s), resampling=few) for s in range(60)]
    errors = np.mean([ours.ece.value for ours in found])
    assert errors == pytest.approx(np.mean([ours.ece_if_calibrated for ours in found]), rel=0.1)


def test_overconfidence_intervals_cover_zero_for_calibrated_rewards(make_split, few):
    splits = (_simulated(make_split, scale=1.0, pairs=200, seed=seed) for seed in range(150))
    found = [calibration(split, resampling=few).overconfidence for split in splits]
    assert 0.88 <= np.mean([ours.low <= 0 <= ours.high for ours in found]) <= 1.0


def test_constant_rewards_are_a_calibrated_coin_toss(make_split, few):
    ours = calibration(make_split([[1.0, 1.0]] * 20), resampling=few)
    assert (ours.ece.value, ours.confidence.value, ours.overconfidence.value) == (0.0, 0.5, 0.0)
    assert ours.nll.value == pytest.approx(np.log(2))


def test_huge_margins_stay_finite(make_split, few):
    ours = calibration(make_split([[1e4, -1e4], [-1e4, 1e4]]), resampling=few)
    assert ours.nll.value == pytest.approx(1e4)
    assert ours.overconfidence.value == pytest.approx(0.5)


def test_adaptive_bins_have_equal_mass_and_span_everything():
    confidence = np.random.default_rng(1).beta(8, 1, 1000) / 2 + 0.5
    edges = bin_edges(confidence, bins=10)
    assert (edges[0], edges[-1]) == (0.5, 1.0)
    assert set(np.histogram(confidence, edges)[0]) == {100}
    assert bin_edges(confidence, bins=5, adaptive=False) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_no_pairs_is_an_error(make_split, few):
    with pytest.raises(ValueError, match="pairs"):
        calibration(make_split([[1.0], [2.0]]), resampling=few)
