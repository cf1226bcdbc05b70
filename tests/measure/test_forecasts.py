import numpy as np
import pytest
from scipy import integrate, optimize, stats

from trueup.divergences.best_of_n import nominal_kl
from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import best_of_n
from trueup.measure.bootstrap import Resampling
from trueup.measure.forecasts import default_strengths, hacking_threshold, tilt_forecast

FEW = Resampling(resamples=60)


def quantiles(samples):
    return (np.arange(samples) + 0.5) / samples


def gaussian(prompts=3, samples=20_000):
    """Pools that are the quantiles of a normal: means over them are integrals, without noise."""
    return np.tile(stats.norm.ppf(quantiles(samples)), (prompts, 1))


def values(estimates):
    return np.array([estimate.value for estimate in estimates])


def test_tilted_gaussian_moves_by_lambda_at_half_lambda_squared_nats():
    pool = gaussian()
    strength = np.array([0.0, 0.5, 0.75, 1.0])
    made = tilt_forecast(pool, 2 * pool + 1, strength=strength, resampling=FEW)
    assert values(made.proxy) == pytest.approx(strength, abs=2e-3)
    assert values(made.gold) == pytest.approx(1 + 2 * strength, abs=4e-3)
    assert made.kl == pytest.approx(strength**2 / 2, abs=2e-3)
    assert made.effective_samples / pool.shape[1] == pytest.approx(np.exp(-(strength**2)), rel=2e-2)
    assert made.outcome == "still rising"
    assert made.peak is None
    assert made.trusted == 4


def test_tilt_finds_the_peak_of_a_quadratic():
    """Gold -(x - 1)^2 of a standard normal proxy is highest where the tilted mean is 1: lambda = 1, KL = 1/2."""
    pool = gaussian()
    strength = np.linspace(0, 2, 21)
    made = tilt_forecast(pool, -((pool - 1) ** 2), strength=strength, resampling=FEW)
    assert made.outcome == "peaks"
    assert strength[made.peak] == pytest.approx(1)
    assert made.kl[made.peak] == pytest.approx(0.5, abs=2e-3)
    assert made.gold[made.peak].value == pytest.approx(-1, abs=5e-3)


def test_tilt_is_exact_on_few_responses():
    proxy, gold = np.array([[0.0, np.log(2.0), np.log(5.0)]] * 2), np.array([[1.0, 2.0, 3.0]] * 2)
    made = tilt_forecast(proxy, gold, strength=np.array([1.0]), resampling=FEW)
    weight = np.array([1, 2, 5]) / 8
    assert made.gold[0].value == pytest.approx(weight @ gold[0])
    assert made.kl[0] == pytest.approx(np.sum(weight * np.log(3 * weight)))
    assert made.effective_samples[0] == pytest.approx(64 / 30)


def test_tilt_ignores_what_is_constant_within_a_prompt():
    generator = np.random.default_rng(0)
    proxy, gold = generator.normal(size=(2, 8, 200))
    offsets = 1000 * generator.normal(size=(8, 1))
    one = tilt_forecast(proxy, gold, strength=np.array([0.0, 1.0, 3.0]), resampling=FEW)
    two = tilt_forecast(proxy + offsets, gold, strength=np.array([0.0, 1.0, 3.0]), resampling=FEW)
    assert values(two.gold) == pytest.approx(values(one.gold), abs=1e-9)
    assert two.kl == pytest.approx(one.kl, abs=1e-9)


def test_tilt_trusts_no_strength_that_leaves_few_samples():
    generator = np.random.default_rng(1)
    proxy = generator.normal(size=(20, 100))
    made = tilt_forecast(proxy, proxy, resampling=FEW)
    assert 1 < made.trusted < len(made.strength)
    assert np.all(made.effective_samples[: made.trusted] >= 10)
    assert made.effective_samples[made.trusted] < 10
    assert np.all(np.diff(made.kl) > 0)
    assert made.kl[-1] <= np.log(100)


def test_default_strengths_follow_the_scale_of_the_proxy():
    pool = gaussian(samples=1000)
    assert default_strengths(pool)[-1] == pytest.approx(20, rel=0.01)
    assert default_strengths(10 * pool)[-1] == pytest.approx(2, rel=0.01)
    assert default_strengths(np.ones((2, 3))).tolist() == [0]
    flat = tilt_forecast(np.ones((2, 30)), np.ones((2, 30)), resampling=FEW)
    assert flat.outcome == "flat"


@pytest.mark.parametrize("target", [0.6, 0.81, 0.95])
def test_quadratic_gold_of_the_quantile_has_its_threshold_in_closed_form(target):
    """E_n[-(u - a)^2] with E[u] = n/(n+1), E[u^2] = n/(n+2) is highest at n = (2 sqrt(a) - 1) / (1 - sqrt(a))."""
    u = quantiles(5000)
    found = hacking_threshold(np.tile(u, (4, 1)), np.tile(-((u - target) ** 2), (4, 1)), resampling=FEW)
    exact = (2 * np.sqrt(target) - 1) / (1 - np.sqrt(target))
    assert found.outcome == "peaks"
    assert found.size == pytest.approx(exact, rel=1e-3)
    assert found.kl == pytest.approx(float(nominal_kl(exact)), rel=2e-3)
    expected = -exact / (exact + 2) + 2 * target * exact / (exact + 1) - target**2
    base = -1 / 3 + target - target**2
    assert found.gain == pytest.approx(expected - base, rel=1e-3)
    assert found.low <= found.size * 1.05
    assert found.high >= found.size / 1.05
    assert found.peaking == 1


@pytest.mark.parametrize("target", [0.7, 0.8, 0.9])
def test_best_of_poisson_against_its_mixture(target):
    """Best-of-Poisson is best-of-(1 + Poisson(mu)): gold, threshold and KL from the mixture itself."""
    u = quantiles(5000)

    def gold_of(mu):
        k = np.arange(400) + 1
        mass = stats.poisson.pmf(k - 1, mu)
        return mass @ (-k / (k + 2) + 2 * target * k / (k + 1) - target**2)

    best = optimize.minimize_scalar(lambda mu: -gold_of(mu), bounds=(0, 60), method="bounded", options={"xatol": 1e-9})
    found = hacking_threshold(
        np.tile(u, (3, 1)), np.tile(-((u - target) ** 2), (3, 1)), rule="best_of_poisson", resampling=FEW
    )
    mu = best.x

    def density(v):
        k = np.arange(200) + 1
        return stats.poisson.pmf(k - 1, mu) @ (k * v ** (k - 1))

    kl = integrate.quad(lambda v: density(v) * np.log(density(v)), 0, 1)[0]
    assert found.size == pytest.approx(1 + mu, rel=1e-3)
    assert found.gain == pytest.approx(-best.fun - gold_of(0), rel=1e-3)
    assert found.kl == pytest.approx(kl, rel=1e-3)


@pytest.mark.parametrize("rule", ["best_of_n", "best_of_poisson"])
def test_outcomes_other_than_a_peak(rule):
    pool = gaussian(samples=500)
    rising = hacking_threshold(pool, pool, rule=rule, resampling=FEW)
    assert rising.outcome == "still rising"
    assert (rising.size, rising.kl, rising.gain) == (None, None, None)
    assert rising.low == rising.high == pytest.approx(500)
    falling = hacking_threshold(pool, -pool, rule=rule, resampling=FEW)
    assert falling.outcome == "falls from the start"
    assert falling.high == 1
    assert hacking_threshold(pool, np.ones_like(pool), rule=rule, resampling=FEW).outcome == "flat"


def test_threshold_is_where_the_unbiased_curve_peaks():
    """Heavy-tailed proxy error: the forecast and the pool's own best-of-n curve agree."""
    generator = np.random.default_rng(2)
    gold = generator.normal(size=(300, 1000))
    proxy = gold + 0.5 * generator.standard_t(2.2, size=gold.shape)
    found = hacking_threshold(proxy, gold, resampling=FEW)
    n = np.arange(1, 400)
    curve = best_of_n(proxy, gold, n).mean(axis=0)
    assert found.outcome == "peaks"
    assert found.low <= found.size <= found.high
    assert found.low < found.high
    assert curve[round(found.size) - 1] == pytest.approx(curve.max(), abs=0.01)
    assert found.gain == pytest.approx(curve.max() - curve[0], abs=0.02)


def test_ties_do_not_depend_on_the_order_of_samples():
    generator = np.random.default_rng(3)
    proxy = generator.integers(0, 5, size=(20, 60)).astype(float)
    gold = generator.normal(size=proxy.shape) - (proxy - 3) ** 2
    order = generator.permuted(np.tile(np.arange(60), (20, 1)), axis=1)
    one = hacking_threshold(proxy, gold, resampling=FEW)
    two = hacking_threshold(np.take_along_axis(proxy, order, 1), np.take_along_axis(gold, order, 1), resampling=FEW)
    assert one.outcome == "peaks"
    assert two.size == pytest.approx(one.size)


def test_bad_input_is_named():
    pool = np.ones((2, 3))
    with pytest.raises(DataError, match="`gold`: 2 prompts by 4 samples; expected 2 by 3"):
        tilt_forecast(pool, np.ones((2, 4)), resampling=FEW)
    with pytest.raises(DataError, match="`proxy`: 6 of 6"):
        hacking_threshold(pool * np.nan, pool, resampling=FEW)
    with pytest.raises(RecipeError, match="ascend"):
        tilt_forecast(pool, pool, strength=np.array([1.0, 0.5]), resampling=FEW)
    with pytest.raises(RecipeError, match="between 1 and the pool's 3"):
        hacking_threshold(pool, pool, largest=4, resampling=FEW)
