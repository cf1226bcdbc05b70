import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from trueup.divergences.best_of_n import chi2_with_ties, kl_with_ties, nominal_chi2, nominal_kl
from trueup.errors import DataError, RecipeError

POOLS = st.lists(st.integers(0, 5), min_size=1, max_size=12)
SIZES = st.floats(1, 60)


def by_responses(scores, n):
    """KL and chi-squared from the probability of every single response, ties broken at random."""
    scores = np.asarray(scores, float)
    base = np.full(len(scores), 1 / len(scores))
    selected = np.empty(len(scores))
    for i, score in enumerate(scores):
        group = np.mean(scores == score)
        selected[i] = (np.mean(scores <= score) ** n - np.mean(scores < score) ** n) / (group * len(scores))
    known = selected > 0
    kl = np.sum(selected[known] * np.log(selected[known] / base[known]))
    return kl, np.sum(selected**2 / base) - 1


def test_nominal_values():
    assert nominal_kl(np.array([1, 2, 1000, 60_000])) == pytest.approx([0, 0.193147, 5.908755, 10.00212], abs=1e-5)
    assert nominal_chi2(np.array([1, 2])) == pytest.approx([0, 1 / 3])


@pytest.mark.parametrize("n", [1.0, 1.5, 2, 7, 40])
def test_nominal_values_are_integrals_over_the_density_of_the_quantile(n):
    def density(u):
        return n * u ** (n - 1)

    kl = integrate.quad(lambda u: density(u) * np.log(density(u)), 0, 1)[0]
    chi2 = integrate.quad(lambda u: density(u) ** 2, 0, 1)[0] - 1
    assert float(nominal_kl(n)) == pytest.approx(kl, abs=1e-8)
    assert float(nominal_chi2(n)) == pytest.approx(chi2, abs=1e-8)


@given(scores=POOLS, n=SIZES)
def test_groups_give_what_single_responses_give(scores, n):
    kl, chi2 = by_responses(scores, n)
    assert kl_with_ties(np.array([scores]), np.array([n]))[0, 0] == pytest.approx(kl, abs=1e-10)
    assert chi2_with_ties(np.array([scores]), np.array([n]))[0, 0] == pytest.approx(chi2, abs=1e-9)


@given(scores=POOLS, n=SIZES)
def test_bounds(scores, n):
    kl = kl_with_ties(np.array([scores]), np.array([n]))[0, 0]
    chi2 = chi2_with_ties(np.array([scores]), np.array([n]))[0, 0]
    assert 0 <= kl <= nominal_kl(n) + 1e-12
    assert chi2 <= nominal_chi2(n) + 1e-12
    assert chi2 >= np.expm1(kl) - 1e-9


def test_identical_texts_change_nothing():
    """Splitting a tied group by text, each text in proportion to its mass, has the same KL: the ratio is one."""
    n, mass = 5.0, np.array([0.5, 0.2, 0.3])
    cdf = np.r_[0, np.cumsum(mass)]
    groups = np.diff(cdf**n)
    by_group = np.sum(groups * np.log(groups / mass))
    texts, inside = np.array([0.1, 0.4, 0.2, 0.3]), np.array([0, 0, 1, 2])
    selected = groups[inside] * texts / mass[inside]
    by_text = np.sum(selected * np.log(selected / texts))
    pool = np.repeat([1.0, 2.0, 3.0], [5, 2, 3])[None]
    assert by_text == pytest.approx(by_group)
    assert kl_with_ties(pool, np.array([n]))[0, 0] == pytest.approx(by_group)


def test_no_movement_without_choice():
    pool = np.array([[3.0, 3.0, 3.0], [1.0, 2.0, 3.0]])
    assert kl_with_ties(pool, np.array([1, 4, 1e6]))[0].tolist() == [0, 0, 0]
    assert chi2_with_ties(pool, np.array([4.0]))[0].tolist() == [0]
    assert kl_with_ties(pool, np.array([1]))[1] == pytest.approx(0, abs=1e-15)
    assert chi2_with_ties(pool, np.array([1]))[1] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("samples", [1000, 100_000])
def test_distinct_scores_fall_below_nominal_by_a_known_amount(samples):
    pool = np.random.default_rng(0).permutation(samples)[None].astype(float)
    n = np.array([10, samples // 10, samples // 2])
    below = nominal_kl(n) - kl_with_ties(pool, n)[0]
    assert below == pytest.approx((n / samples) ** 2 / 24, rel=0.05, abs=1e-10)


def test_saturates_at_the_log_of_the_pool():
    kl = kl_with_ties(np.arange(8.0)[None], np.array([1e3, 1e9]))[0]
    assert kl == pytest.approx(np.log(8))


def test_prompts_are_separate_and_order_is_nothing():
    generator = np.random.default_rng(1)
    pool = generator.integers(0, 30, (5, 40)).astype(float)
    n = np.array([1, 3, 20])
    together = kl_with_ties(pool, n)
    assert together == pytest.approx(np.concatenate([kl_with_ties(row[None], n) for row in pool]))
    assert together == pytest.approx(kl_with_ties(generator.permuted(pool, axis=1), n), abs=1e-14)


def test_errors():
    with pytest.raises(DataError, match="not finite"):
        kl_with_ties(np.array([[np.nan]]), np.array([1]))
    for bad in (0.5, 0, np.nan, np.inf):
        with pytest.raises(RecipeError, match="at least 1"):
            nominal_kl(bad)
