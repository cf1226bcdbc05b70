import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trueup.divergences.best_of_n import nominal_kl
from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import best_of_n, best_of_n_many, curve, in_order_of, n_grid, weights
from trueup.measure.bootstrap import Resampling


def over_subsets(select, value, n):
    """Mean over all n-subsets; inside each, over all responses that tie for the highest score."""
    means = []
    for subset in itertools.combinations(range(len(select)), n):
        best = max(select[i] for i in subset)
        means.append(
            Fraction(sum(Fraction(value[i]) for i in subset if select[i] == best))
            / sum(select[i] == best for i in subset)
        )
    return float(sum(means) / len(means))


def test_weights_of_the_card():
    assert weights(3, 2) == pytest.approx(np.array([[0, 1 / 3, 2 / 3]]))
    assert weights(5, [1, 5]) == pytest.approx(np.array([[0.2] * 5, [0, 0, 0, 0, 1]]))


@given(samples=st.integers(1, 60), data=st.data())
def test_weights_are_exact(samples, data):
    n = data.draw(st.integers(1, samples))
    exact = [comb(i - 1, n - 1) / comb(samples, n) for i in range(1, samples + 1)]
    assert weights(samples, n)[0] == pytest.approx(exact, rel=1e-12)
    assert weights(samples, n).sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("n", [2, 64, 1000, 6144, 12_500])
def test_weights_agree_with_exact_integers_for_large_pools(n):
    samples = 12_600
    ours = weights(samples, n)[0]
    total = comb(samples, n)
    ranks = np.unique(np.linspace(n, samples, 60).astype(int))
    exact = np.array([float(Fraction(comb(int(i) - 1, n - 1), total)) for i in ranks])
    known = exact > 1e-290
    assert ours[ranks - 1][known] == pytest.approx(exact[known], rel=1e-10)
    assert ours.sum() == pytest.approx(1, rel=1e-12)


@given(
    scores=st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=8),
    data=st.data(),
)
def test_brute_force_over_subsets_with_ties(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    select, value = (list(column) for column in zip(*scores, strict=True))
    ours = best_of_n(np.array([select]), np.array([value]), n)[0, 0]
    assert ours == pytest.approx(over_subsets(select, value, n), abs=1e-12)


def test_ties_are_the_mean_over_all_orders():
    """Breaking ties in each of the possible orders, then averaging, is what levelling gives."""
    select, value = [1, 2, 2, 2, 3], [5.0, -1.0, 4.0, 0.5, 2.0]
    n = np.array([1, 2, 3, 5])
    orders = [
        best_of_n(np.array([[1, *(2 + 0.1 * k for k in order), 3]]), np.array([value]), n)
        for order in itertools.permutations(range(3))
    ]
    assert best_of_n(np.array([select]), np.array([value]), n) == pytest.approx(np.mean(orders, axis=0))


@given(st.permutations(range(7)))
def test_order_of_samples_is_nothing(order):
    select, value = np.array([[2, 1, 2, 0, 3, 3, 1]]), np.arange(7.0)[None] ** 2
    ours = best_of_n(select[:, order], value[:, order], [1, 2, 4])
    assert ours == pytest.approx(best_of_n(select, value, [1, 2, 4]))


def test_ends_are_the_mean_and_the_best():
    generator = np.random.default_rng(0)
    proxy, gold = generator.normal(size=(2, 6, 50))
    ends = best_of_n(proxy, gold, [1, 50])
    assert ends[:, 0] == pytest.approx(gold.mean(axis=1))
    assert ends[:, 1] == pytest.approx(gold[np.arange(6), proxy.argmax(axis=1)])


def test_many_prompts_and_samples_need_no_weights_that_are_left_out():
    """Chunks and truncated weights against one plain product."""
    generator = np.random.default_rng(1)
    proxy = np.round(generator.normal(size=(70, 9000)), 3).astype(np.float32)
    gold = generator.standard_t(2, size=(70, 9000))
    n = n_grid(9000)
    table = weights(9000, n)
    expected = [in_order_of(proxy, value) @ table.T for value in (proxy, gold)]
    assert best_of_n_many(proxy, [proxy, gold], n) == pytest.approx(np.array(expected), rel=1e-12, abs=1e-12)


def test_values_in_order_share_ties():
    assert in_order_of(np.array([[2, 1, 2], [1, 1, 1]]), np.array([[10.0, 0.0, 20.0], [3.0, 6.0, 0.0]])).tolist() == [
        [0, 15, 15],
        [3, 3, 3],
    ]


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 4096, 12_600])
def test_grid_covers_both_ends(samples):
    grid = n_grid(samples)
    assert grid[0] == 1
    assert grid[-1] == samples
    assert np.all(np.diff(grid) > 0)
    assert len(grid) <= 2 * np.log2(samples) + 2
    assert set(2 ** np.arange(int(np.log2(samples)) + 1)) <= set(grid.tolist())
    assert len(n_grid(4096, per_octave=8)) > len(n_grid(4096))


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_gaussian_noise_only_regresses(spread):
    """Gold = proxy / (1 + s^2) in expectation for every n, and no over-optimisation."""
    generator = np.random.default_rng(2)
    gold = generator.normal(size=(400, 4096))
    made = curve(
        gold + spread * generator.normal(size=gold.shape),
        gold,
        n=4 ** np.arange(1, 6),
        resampling=Resampling(resamples=20),
    )
    selected, judged = made.proxy_by_prompt.mean(axis=0), made.gold_by_prompt.mean(axis=0)
    assert judged / selected == pytest.approx(1 / (1 + spread**2), abs=0.025)
    assert np.all(np.diff(judged) > 0)


def test_expected_maximum_of_normals():
    """E[max of n] is an integral known by quadrature; the pool's estimate is unbiased for it."""
    pool = np.random.default_rng(3).normal(size=(2000, 200))
    n = np.array([2, 3, 10])
    exact = [stats.norm.expect(lambda x, k=k: x * k * stats.norm.cdf(x) ** (k - 1)) for k in n]
    table = best_of_n(pool, pool, n)
    error = table.std(axis=0, ddof=1) / np.sqrt(len(table))
    assert np.all(np.abs(table.mean(axis=0) - exact) < 4 * error)
    assert exact[0] == pytest.approx(1 / np.sqrt(np.pi))


def test_heavy_tailed_errors_over_optimise_and_conservative_ensembles_do_not():
    """The card's simulation: single and mean peak inside, worst case and uncertainty-weighted rise."""
    generator = np.random.default_rng(4)
    prompts, samples = 150, 2048
    gold = generator.normal(size=(prompts, samples))
    own = generator.standard_t(2.5, size=(5, prompts, samples))
    members = gold + 0.3 * generator.normal(size=gold.shape) + 0.7 * own
    aggregates = {
        "single": members[0],
        "mean": members.mean(axis=0),
        "worst": members.min(axis=0),
        "uncertainty": members.mean(axis=0) - 0.5 * members.var(axis=0),
    }
    n = 2 ** np.arange(12)
    gold_of = {name: best_of_n(proxy, gold, n).mean(axis=0) for name, proxy in aggregates.items()}
    for name in ("single", "mean"):
        assert 0 < gold_of[name].argmax() < len(n) - 1
        assert gold_of[name][-1] < gold_of[name].max() - 0.3
    for name in ("worst", "uncertainty"):
        assert np.all(np.diff(gold_of[name]) > -0.02)
        assert gold_of[name][-1] > gold_of["mean"].max() + 0.5
    assert gold_of["mean"].max() > gold_of["single"].max()


def test_curve_holds_bands_and_distances():
    generator = np.random.default_rng(5)
    proxy = generator.integers(0, 4, (40, 64)).astype(float)
    gold = generator.normal(size=proxy.shape)
    made = curve(proxy, gold, resampling=Resampling(resamples=200))
    assert made.n.tolist() == n_grid(64).tolist()
    assert made.kl == pytest.approx(nominal_kl(made.n))
    assert np.all(made.kl_ties <= made.kl + 1e-12)
    assert made.kl_ties[-1] < made.kl[-1] / 2
    assert made.kl_ties[0] == pytest.approx(0, abs=1e-15)
    for bands, by_prompt in ((made.proxy, made.proxy_by_prompt), (made.gold, made.gold_by_prompt)):
        assert [band.value for band in bands] == pytest.approx(by_prompt.mean(axis=0))
        assert all(band.low <= band.value <= band.high and band.n == 40 for band in bands)
    half = (made.gold[0].high - made.gold[0].low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 39) * gold.mean(axis=1).std(ddof=1) / np.sqrt(40), rel=0.25)


def test_curve_without_gold_and_with_sizes_in_any_order():
    made = curve(np.arange(8.0).reshape(2, 4), n=[4, 1, 4], resampling=Resampling(resamples=10))
    assert made.gold is None
    assert made.gold_by_prompt is None
    assert made.n.tolist() == [1, 4]
    assert made.proxy_by_prompt.tolist() == [[1.5, 3], [5.5, 7]]


def test_bad_input_is_named():
    good, few = np.zeros((2, 4)), Resampling(resamples=10)
    with pytest.raises(DataError, match=r"`gold`: 1 of 8 .* prompt 1, sample 3"):
        curve(good, np.where(np.arange(8).reshape(2, 4) == 7, np.nan, 0.0), resampling=few)
    with pytest.raises(DataError, match=r"`gold`: 3 prompts by 4 samples; expected 2 by 4"):
        curve(good, np.zeros((3, 4)), resampling=few)
    with pytest.raises(RecipeError, match="best-of-5 needs"):
        curve(good, n=[1, 5], resampling=few)
    with pytest.raises(RecipeError, match="at least 1"):
        best_of_n(good, good, 0)
    with pytest.raises(RecipeError, match="at least 1"):
        n_grid(0)
