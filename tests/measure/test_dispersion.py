import numpy as np
import pytest
from scipy import stats

from trueup.measure.dispersion import (
    common_edges,
    decomposition,
    drift,
    hidden_norm,
    histogram,
    moments,
    within_prompt_std,
)


def test_moments_equal_scipys(few):
    values = np.random.default_rng(0).gamma(2.0, size=600) + 1e4
    ours = moments(values, np.repeat(np.arange(200), 3), resampling=few)
    assert ours.mean.value == pytest.approx(values.mean())
    assert ours.std.value == pytest.approx(values.std())
    assert ours.cv.value == pytest.approx(values.std() / values.mean())
    assert ours.skew.value == pytest.approx(stats.skew(values), rel=1e-6)
    assert ours.std.n == 200
    for estimate in ours:
        assert estimate.low < estimate.value < estimate.high


def test_std_interval_covers_the_true_std(few):
    rng = np.random.default_rng(1)
    prompt = np.arange(200)
    hits = [moments(rng.normal(0, 2.0, 200), prompt, resampling=few).std for _ in range(100)]
    assert 85 <= sum(hit.low <= 2.0 <= hit.high for hit in hits) <= 99


def test_constant_values_have_no_spread_and_no_skew(few):
    ours = moments(np.full(6, 0.1), np.repeat(np.arange(3), 2), resampling=few)
    assert (ours.std.value, ours.std.low, ours.std.high) == (0.0, 0.0, 0.0)
    assert ours.mean.value == pytest.approx(0.1)
    assert np.isnan(ours.skew.value)


def test_within_prompt_std_ignores_offsets_of_prompts(make_split, few):
    split = make_split([[0, 2], [100, 102, 104], [7]])
    assert within_prompt_std(split, resampling=few).value == pytest.approx(np.sqrt((2 + 8) / 3))
    assert within_prompt_std(split, resampling=few).n == 2


def test_norm_of_half_precision_vectors_is_accumulated_wide():
    hidden = np.full((1, 4096), 200.0, dtype=np.float16)
    assert hidden_norm(hidden)[0] == pytest.approx(200.0 * 64)


def test_histograms_of_two_splits_share_edges_and_count_everything():
    a, b = np.array([0.0, 1.0, 2.0]), np.array([5.0, 10.0])
    edges = common_edges([a, b], bins=5)
    assert [histogram(values, edges).counts.sum() for values in (a, b)] == [3, 2]
    assert histogram(np.zeros(4), common_edges([np.zeros(4)])).counts.sum() == 4


def test_drift_of_a_shifted_and_stretched_copy():
    values = np.random.default_rng(2).normal(size=500)
    moved = drift(values, 3.0 * values + 1.0)
    assert moved.mean_shift_in_std == pytest.approx((2 * values.mean() + 1) / values.std())
    assert moved.std_ratio == pytest.approx(3.0)
    assert moved.distance == stats.ks_2samp(values, 3.0 * values + 1.0).statistic
    assert drift(values, values) == (0.0, 1.0, 0.0)
    assert np.isnan(drift(np.ones(3), values).std_ratio)


def _with_hidden(make_split, norm, cos):
    head = np.array([3.0, 4.0])
    along, across = head / 5, np.array([-4.0, 3.0]) / 5
    hidden = norm[:, None] * (cos[:, None] * along + np.sqrt(1 - cos[:, None] ** 2) * across)
    rewards = (hidden @ head).reshape(-1, 2).tolist()
    return make_split(rewards, hidden=hidden, head=head)


def test_decomposition_recovers_planted_factors(make_split, few):
    rng = np.random.default_rng(3)
    norm, cos = rng.uniform(5, 15, 400), rng.uniform(-0.3, 0.8, 400)
    ours = decomposition(_with_hidden(make_split, norm, cos), resampling=few)
    assert ours.head_norm == pytest.approx(5.0)
    assert (ours.norm_mean.value, ours.norm_std.value) == (pytest.approx(norm.mean()), pytest.approx(norm.std()))
    assert (ours.cos_mean.value, ours.cos_std.value) == (pytest.approx(cos.mean()), pytest.approx(cos.std()))
    assert ours.unexplained < 1e-12
    product, dn, dc = norm * cos, norm - norm.mean(), cos - cos.mean()
    terms = (cos.mean() * dn, norm.mean() * dc, dn * dc)
    shares = [np.cov(term, product, bias=True)[0, 1] / product.var() for term in terms]
    found = [ours.norm_share.value, ours.cos_share.value, ours.joint_share.value]
    assert found == pytest.approx(shares)
    assert sum(found) == pytest.approx(1.0)


@pytest.mark.parametrize(("norm_varies", "share"), [(True, (1.0, 0.0)), (False, (0.0, 1.0))])
def test_one_varying_factor_gets_all_of_the_variance(make_split, few, norm_varies, share):
    varying = np.random.default_rng(4).uniform(0.2, 0.9, 100)
    constant = np.full(100, 0.5)
    norm, cos = (varying, constant) if norm_varies else (constant, varying)
    ours = decomposition(_with_hidden(make_split, norm, cos), resampling=few)
    assert (ours.norm_share.value, ours.cos_share.value) == pytest.approx(share, abs=1e-9)


def test_a_bias_shows_as_unexplained(make_split, few):
    split = make_split([[1.5, 2.5]], hidden=np.array([[1.0], [2.0]]), head=np.array([1.0]))
    assert decomposition(split, resampling=few).unexplained == 0.5
    with pytest.raises(ValueError, match="head"):
        decomposition(make_split([[1.0]]), resampling=few)
