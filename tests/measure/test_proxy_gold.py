import numpy as np
import pytest
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import weights
from trueup.measure.bootstrap import Resampling
from trueup.measure.proxy_gold import (
    agreement,
    agreement_within,
    hacked,
    hacking,
    improvement_bound,
    tight_improvement_bound,
)
from trueup.measure.scored import Estimate

FEW = Resampling(resamples=60)


def pool(prompts=30, samples=64, seed=0):
    generator = np.random.default_rng(seed)
    gold = generator.normal(size=(prompts, samples)) + 2 * generator.normal(size=(prompts, 1))
    return gold + generator.normal(size=gold.shape) - generator.normal(size=(prompts, 1)), gold


def normalized(reward, base):
    centred = reward - base @ reward
    return centred / np.sqrt(base @ centred**2)


def tabular(generator, size=6):
    """Random policy, reference and normalised rewards on one table, and the gains, r and chi-squared they give."""
    base, policy = generator.dirichlet(np.ones(size), 2)
    proxy, gold = (normalized(reward, base) for reward in generator.normal(size=(2, size)))
    return base @ (proxy * gold), policy @ proxy, policy @ gold, np.sum(policy**2 / base) - 1


def test_bounds_are_never_violated_on_random_tables():
    generator = np.random.default_rng(0)
    checked = 0
    for _ in range(5000):
        r, proxy_gain, gold_gain, chi2 = tabular(generator)
        tight = tight_improvement_bound(proxy_gain, chi2, r=r)
        assert gold_gain >= tight - 1e-9
        if r > 0:
            checked += 1
            theorem = improvement_bound(proxy_gain, chi2, r=r)
            assert gold_gain >= theorem - 1e-9
            assert tight >= theorem - 1e-9
    assert checked > 2000


def test_tight_bound_is_attained_by_the_worst_gold():
    """Gold = r proxy - sqrt(1 - r^2) w, with w along what the policy's ratio has left after the proxy."""
    generator = np.random.default_rng(1)
    base, policy = generator.dirichlet(np.ones(8), 2)
    proxy, ratio, r = normalized(generator.normal(size=8), base), policy / base - 1, 0.6
    gain, chi2 = policy @ proxy, base @ ratio**2
    gold = r * proxy - np.sqrt(1 - r**2) * normalized(ratio - gain * proxy, base)
    assert base @ (proxy * gold) == pytest.approx(r)
    assert policy @ gold == pytest.approx(float(tight_improvement_bound(gain, chi2, r=r)))


def test_moving_along_the_proxy():
    """mu = ref (1 + c proxy): chi-squared c^2, gain c, gold r c, theorem c (1 - sqrt(1 - r^2)) / r > 0."""
    r, c = 0.7, 0.1
    theorem = float(improvement_bound(c, c**2, r=r))
    assert theorem == pytest.approx(c * (1 - np.sqrt(1 - r**2)) / r)
    assert 0 < theorem < r * c
    assert float(tight_improvement_bound(c, c**2, r=r)) == pytest.approx(r * c)


def test_full_correlation_is_an_equality_and_none_has_no_theorem():
    gain, chi2 = np.array([0.3, 1.0]), np.array([0.2, 5.0])
    assert improvement_bound(gain, chi2, r=1.0) == pytest.approx(gain)
    assert np.isnan(improvement_bound(gain, chi2, r=0.0)).all()
    assert np.isnan(improvement_bound(gain, chi2, r=-0.5)).all()


def test_agreement_against_scipy():
    proxy, gold = pool()
    pooled, within = agreement(proxy, gold, resampling=FEW), agreement_within(proxy, gold, resampling=FEW)
    a, b = (reward - reward.mean(axis=1, keepdims=True) for reward in (proxy, gold))
    assert pooled.pearson.value == pytest.approx(stats.pearsonr(proxy.ravel(), gold.ravel())[0])
    assert pooled.spearman.value == pytest.approx(stats.spearmanr(proxy.ravel(), gold.ravel())[0])
    assert within.pearson.value == pytest.approx(stats.pearsonr(a.ravel(), b.ravel())[0])
    by_prompt = [stats.spearmanr(x, y)[0] for x, y in zip(proxy, gold, strict=True)]
    assert within.spearman.value == pytest.approx(np.mean(by_prompt))
    assert pooled.sigma_gold == pytest.approx(gold.std())
    assert within.sigma_proxy == pytest.approx(np.sqrt(proxy.var(axis=1).mean()))
    assert pooled.penalty == pytest.approx(proxy.std() * np.sqrt(1 - pooled.pearson.value**2))
    for estimate in (pooled.pearson, pooled.spearman, within.pearson, within.spearman):
        assert estimate.low < estimate.value < estimate.high
        assert estimate.n == 30


def test_interval_of_the_correlation_has_the_width_of_its_theory():
    """One sample a prompt is an ordinary sample of pairs: Fisher's interval."""
    generator = np.random.default_rng(2)
    gold = generator.normal(size=(400, 1))
    proxy = gold + generator.normal(size=(400, 1))
    found = agreement(proxy, gold, resampling=Resampling(resamples=1000)).pearson
    fisher = stats.pearsonr(proxy[:, 0], gold[:, 0]).confidence_interval()
    assert found.low == pytest.approx(fisher.low, abs=0.02)
    assert found.high == pytest.approx(fisher.high, abs=0.02)


def test_constant_rewards_have_no_correlation():
    gold = pool(20, 7)[1]
    assert np.isnan(agreement(np.full_like(gold, 0.1), gold, resampling=FEW).pearson.value)
    by_prompt = np.tile(np.linspace(0.1, 0.7, 20)[:, None], (1, 7))
    assert np.isnan(agreement_within(by_prompt, gold, resampling=FEW).pearson.value)


@pytest.mark.parametrize("seed", [4, 7, 9])
def test_resamples_of_one_prompt_say_nothing(seed):
    """At n = N two prompts are two points, and half the resamples hold one point twice: there rounding alone varies."""
    proxy, gold = pool(2, 5, seed=seed)
    found = hacking(proxy, gold, n=5, resampling=FEW).selected_pooled[0]
    assert abs(found.value) == pytest.approx(1)
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


def test_selected_correlations_against_explicit_weights():
    proxy, gold = pool(5, 12)
    n = np.array([1, 3, 12])
    found = hacking(proxy, gold, n=n, resampling=FEW)
    for k, size in enumerate(n):
        weight = np.empty_like(proxy)
        np.put_along_axis(weight, np.argsort(proxy, axis=1), np.tile(weights(12, size), (5, 1)), axis=1)
        cov = np.cov(proxy.ravel(), gold.ravel(), aweights=weight.ravel(), ddof=0)
        assert found.selected_pooled[k].value == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))
        covs = sum(np.cov(x, y, aweights=w, ddof=0) for x, y, w in zip(proxy, gold, weight, strict=True))
        if size < 12:
            assert found.selected_within[k].value == pytest.approx(covs[0, 1] / np.sqrt(covs[0, 0] * covs[1, 1]))
    assert np.isnan(found.selected_within[-1].value)
    assert found.selected_pooled[0].value == pytest.approx(found.pooled.pearson.value)
    assert found.selected_within[0].value == pytest.approx(found.within.pearson.value)


def test_regression_is_no_hacking():
    proxy, gold = pool(prompts=100, samples=256)
    found = hacking(proxy, gold, n=[1, 4, 64], resampling=FEW)
    assert found.verdict == ("no", "no", "no")
    assert found.gold_change[0] == Estimate(0.0, 0.0, 0.0, 100)
    assert found.proxy_change[2].value > found.gold_change[2].value > 1
    assert found.chi2 == pytest.approx([0, 9 / 7, 63**2 / 127], rel=0.02)


def planted(prompts=100, samples=512):
    """Proxy = gold but for rare responses that it adores and gold detests."""
    generator = np.random.default_rng(3)
    gold = generator.normal(size=(prompts, samples))
    trick = generator.random(gold.shape) < 0.01
    return np.where(trick, 4 + 0.1 * gold, gold + 0.3 * generator.normal(size=gold.shape)), np.where(trick, -3, gold)


def test_planted_hacking_is_found_once_optimisation_reaches_it():
    proxy, gold = planted()
    found = hacking(proxy, gold, n=[1, 4, 256], resampling=FEW)
    assert found.pooled.pearson.low > 0
    assert found.verdict == ("no", "no", "yes")
    assert found.proxy_change[2].value > 3
    assert found.gold_change[2].value < -2
    assert found.selected_within[2].value < found.within.pearson.value


@pytest.mark.parametrize("make", [pool, planted])
def test_bounds_hold_on_pools(make):
    proxy, gold = make()
    found = hacking(proxy, gold, n=[1, 2, 4, 8, 16], resampling=FEW)
    change = np.array([estimate.value for estimate in found.gold_change])
    for bounds in (found.bounds_pooled, found.bounds_within):
        assert np.all(change >= bounds.tight - 1e-9)
        assert np.all(bounds.tight >= bounds.theorem - 1e-9)
        assert bounds.theorem[0] == pytest.approx(0, abs=1e-9)


def test_a_bound_that_promises_improvement():
    """A nearly perfect proxy has a positive guarantee at small n."""
    generator = np.random.default_rng(4)
    gold = generator.normal(size=(50, 200))
    found = hacking(gold + 0.05 * generator.normal(size=gold.shape), gold, n=[2, 4], resampling=FEW)
    assert np.all(found.bounds_within.theorem > 0.3)
    assert np.all(found.bounds_within.theorem < [change.value for change in found.gold_change])


@pytest.mark.parametrize(
    ("correlation", "change", "expected"),
    [
        ((0.5, 0.4, 0.6), (-1.0, -1.5, -0.5), "yes"),
        ((0.5, 0.4, 0.6), (-1.0, -2.5, 0.5), "cannot tell"),
        ((0.1, -0.1, 0.3), (-1.0, -1.5, -0.5), "cannot tell"),
        ((0.5, 0.4, 0.6), (1.0, 0.5, 1.5), "no"),
        ((-0.5, -0.6, -0.4), (-1.0, -1.5, -0.5), "no"),
        ((np.nan, np.nan, np.nan), (-1.0, -1.5, -0.5), "cannot tell"),
        ((0.5, 0.4, 0.6), (-1.0, np.nan, np.nan), "cannot tell"),
    ],
)
def test_verdicts(correlation, change, expected):
    assert hacked(Estimate(*correlation, 10), Estimate(*change, 10)) == expected


def test_bad_input_is_named():
    good = np.ones((2, 3))
    with pytest.raises(DataError, match="`gold`: 1 of 6"):
        hacking(good, np.array([[1, 2, 3], [4, 5, np.inf]]), n=[1], resampling=FEW)
    with pytest.raises(DataError, match="expected 2 by 3"):
        agreement(good, np.ones((3, 2)), resampling=FEW)
    with pytest.raises(RecipeError, match="best-of-4"):
        hacking(good, good, n=4, resampling=FEW)
