import numpy as np
import pytest

from trueup.measure.effective_rank import effective_rank


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_k_equal_singular_values_have_rank_k(k, shape):
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(shape[0], k)))[0]
    right = np.linalg.qr(rng.normal(size=(shape[1], k)))[0]
    assert effective_rank(left @ right.T * 7.0).value == pytest.approx(k, rel=1e-6)


def test_rank_one_matrix_has_rank_one_whatever_its_norms():
    rng = np.random.default_rng(1)
    assert effective_rank(np.outer(rng.lognormal(size=30), rng.normal(size=10))).value == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shape", [(100, 20), (20, 100), (3, 3)])
def test_value_equals_the_definition_by_singular_values(shape):
    hidden = np.random.default_rng(2).normal(size=shape) @ np.diag(np.linspace(1, 3, shape[1]))
    p = np.linalg.svd(hidden, compute_uv=False)
    p = p / p.sum()
    assert effective_rank(hidden).value == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-9)
    assert effective_rank(hidden * 1e-3).value == pytest.approx(effective_rank(hidden).value)


def test_interval_covers_the_rank_of_more_rows():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(16, 16)) * np.geomspace(1, 30, 16)
    limit = effective_rank(rng.normal(size=(8000, 16)) @ mixing).value
    found = [effective_rank(rng.normal(size=(800, 16)) @ mixing) for _ in range(40)]
    assert sum(estimate.low <= limit <= estimate.high for estimate in found) >= 32
    assert all(estimate.high - estimate.low < 1.0 for estimate in found)


def test_many_rows_are_thinned_and_few_rows_have_no_interval():
    hidden = np.random.default_rng(4).normal(size=(500, 4))
    assert effective_rank(hidden, max_rows=100).n == 100
    assert np.isnan(effective_rank(hidden[:10]).low)
    assert np.isnan(effective_rank(np.zeros((30, 4))).value)
