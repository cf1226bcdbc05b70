import numpy as np
import pytest

from measure.law_simulations import NS, D, pools, prompt_curves
from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.laws import Law, fit, fit_curves

LAWS = (Law("best_of_n", 0.6, 0.2), Law("rl", 0.6, 0.4))
FEW = Resampling(resamples=300)


def one_fit(gold, form="best_of_n", **options):
    return fit_curves(D, gold, form=form, resampling=FEW, **options)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.form)
def test_noise_free_units_give_the_law_with_intervals_of_no_width(law):
    gold = np.array([[3.0], [5.0], [-1.0]]) + law(D)
    fitted = one_fit(gold, law.form)
    peak_d, peak_gold = law.peak()
    truth = (law.alpha, law.beta, peak_d, peak_gold)
    for estimate, value in zip((fitted.alpha, fitted.beta, fitted.peak_d, fitted.peak_gold), truth, strict=True):
        assert [estimate.value, estimate.low, estimate.high] == pytest.approx([value] * 3, rel=1e-10)
    assert fitted.rms == pytest.approx(0, abs=1e-12)
    assert (fitted.points, fitted.d_max, fitted.alpha.n) == (len(D) - 1, D[-1], 3)
    assert fitted.verdict == "peaks"


def test_point_estimate_is_the_fit_of_the_mean_curve_above_the_initial_policy():
    gold = prompt_curves(LAWS[0], np.random.default_rng(0), units=9)
    mean = gold.mean(axis=0)
    law, mine = fit(D, mean - mean[0], form="best_of_n"), one_fit(gold).law
    assert (mine.alpha, mine.beta) == pytest.approx((law.alpha, law.beta))


def test_interval_of_alpha_is_that_of_the_mean_of_the_units_own_fits():
    gold = prompt_curves(LAWS[1], np.random.default_rng(1), units=80)
    own = np.array([fit(D, row - row[0], form="rl").alpha for row in gold])
    fitted = fit_curves(D, gold, form="rl", resampling=Resampling(resamples=4000))
    half = 1.99 * own.std(ddof=1) / np.sqrt(80)
    assert fitted.alpha.value == pytest.approx(own.mean())
    assert fitted.alpha.high - fitted.alpha.low == pytest.approx(2 * half, rel=0.05)


def test_each_units_level_does_not_matter_and_pairing_removes_it():
    rng = np.random.default_rng(2)
    gold = prompt_curves(LAWS[0], rng, units=20)
    moved = one_fit(gold + 100 * rng.normal(size=(20, 1)))
    assert moved.alpha.low == pytest.approx(one_fit(gold).alpha.low)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.form)
def test_intervals_cover_the_truth_in_95_percent_of_a_thousand_data_sets(law):
    truth = np.array([law.alpha, law.beta, *law.peak()])
    covered, simulations = np.zeros(4), 1000
    for seed in range(simulations):
        gold = prompt_curves(law, np.random.default_rng(seed), units=60 + seed % 41)
        fitted = fit_curves(D, gold, form=law.form, resampling=Resampling(resamples=400, seed=seed))
        ends = [(each.low, each.high) for each in (fitted.alpha, fitted.beta, fitted.peak_d, fitted.peak_gold)]
        low, high = np.array(ends).T
        covered += (low <= truth) & (truth <= high)
    assert np.all(covered >= 0.93 * simulations), covered
    assert np.all(covered <= 0.97 * simulations), covered


@pytest.mark.parametrize("groups", [3, 5])
def test_intervals_over_a_few_worlds_cover_the_truth_for_new_worlds(groups):
    law, covered, simulations = LAWS[0], np.zeros(2), 300
    labels = np.repeat(np.arange(groups), 20)
    for seed in range(simulations):
        rng = np.random.default_rng(seed)
        worlds = [Law(law.form, *([law.alpha, law.beta] + rng.normal(size=2) * [0.2, 0.05])) for _ in range(groups)]
        gold = np.concatenate([prompt_curves(world, rng, units=20) for world in worlds])
        resampling = Resampling(resamples=300, seed=seed)
        fitted = fit_curves(D, gold, form=law.form, resampling=resampling, groups=labels)
        assert fitted.alpha.n == groups
        covered += [
            fitted.alpha.low <= law.alpha <= fitted.alpha.high,
            fitted.beta.low <= law.beta <= fitted.beta.high,
        ]
    assert np.all(covered >= 0.92 * simulations), covered
    assert np.all(covered <= 0.98 * simulations), covered


def test_worlds_that_differ_give_wider_intervals_than_their_prompts_alone_and_each_counts_once():
    rng = np.random.default_rng(3)
    worlds = [Law("best_of_n", alpha, 0.2) for alpha in (0.2, 0.5, 0.8, 1.1)]
    gold = np.concatenate([prompt_curves(law, rng, units=k) for law, k in zip(worlds, (10, 20, 40, 80), strict=True)])
    labels = np.repeat(np.arange(4), (10, 20, 40, 80))
    pooled, by_world = one_fit(gold), one_fit(gold, groups=labels)
    assert by_world.alpha.high - by_world.alpha.low > 3 * (pooled.alpha.high - pooled.alpha.low)
    means = [fit(D, gold[labels == k].mean(axis=0) - gold[labels == k, 0].mean(), form="best_of_n") for k in range(4)]
    assert by_world.alpha.value == pytest.approx(np.mean([law.alpha for law in means]))
    assert one_fit(gold, groups=np.full(150, 7)).alpha == pooled.alpha


def verdicts(draw, *, form, simulations, d=D):
    found = [
        fit_curves(d, draw(np.random.default_rng(seed)), form=form, resampling=Resampling(resamples=200, seed=seed))
        for seed in range(simulations)
    ]
    return [each.verdict for each in found]


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_regressional_error_is_never_called_a_peak(form, spread):
    found = verdicts(
        lambda rng: pools(rng, lambda size: spread * rng.normal(size=size), prompts=40), form=form, simulations=40
    )
    assert found.count("peaks") == 0
    assert found.count("still rising") >= (38 if spread == 1 else 10)


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_heavy_tailed_error_is_called_a_peak(form):
    found = verdicts(
        lambda rng: pools(rng, lambda size: 0.7 * rng.standard_t(2.5, size=size), prompts=100),
        form=form,
        simulations=15,
    )
    assert found.count("peaks") >= 14


@pytest.mark.parametrize("plateau", [0.0, 0.3])
def test_false_alarms_on_a_plateau_are_rare(plateau):
    def draw(rng):
        walk = np.cumsum(rng.normal(size=(60, len(D))), axis=1) / np.sqrt(len(D))
        return np.minimum(D, plateau * D[-1]) + walk

    found = verdicts(draw, form="best_of_n", simulations=300)
    assert found.count("peaks") <= 0.05 * 300
    assert found.count("still rising") <= 0.05 * 300


def quiet(curve, form):
    """A fit to 30 units with hardly any noise around a curve."""
    walk = np.cumsum(np.random.default_rng(4).normal(size=(30, len(D))), axis=1)
    return one_fit(curve + 1e-3 * walk, form)


def test_the_law_alone_does_not_make_a_peak_and_the_data_alone_do_not_either():
    plateau = quiet(np.minimum(D, 0.3 * D[-1]) + 0.02 * D, "best_of_n")
    assert plateau.inside >= 0.95
    assert plateau.observed.fall.low <= 0
    assert plateau.verdict == "cannot tell"
    dip = quiet(D - 0.4 * (D[-1] == D), "best_of_n")
    assert dip.observed.fall.low > 0
    assert dip.inside < 0.95
    assert dip.verdict == "cannot tell"


def test_the_law_alone_does_not_make_a_rise_and_the_data_alone_do_not_either():
    plateau = quiet(np.minimum(D, 0.7 * D[-1]), "rl")
    assert plateau.inside <= 0.05
    assert max(plateau.observed.rise.low, plateau.observed.fall.low) <= 0
    assert plateau.verdict == "cannot tell"
    hump = quiet(np.minimum(D, 0.3 * D[-1]) + 0.02 * D, "best_of_n")
    assert hump.observed.rise.low > 0
    assert hump.verdict == "cannot tell"


@pytest.mark.parametrize("beta", [0.1, -0.05])
def test_gold_that_falls_from_the_start_peaks_at_the_start_even_if_the_law_turns_up_later(beta):
    fitted = quiet(Law("best_of_n", -0.5, beta)(D), "best_of_n")
    assert fitted.inside == 1
    assert fitted.observed.d.value == 0
    assert fitted.verdict == "peaks"


def test_gold_that_falls_from_the_start_peaks_at_the_start():
    gold = prompt_curves(Law("best_of_n", -0.5, 0.3), np.random.default_rng(5), units=60)
    fitted = one_fit(gold)
    assert fitted.verdict == "peaks"
    assert fitted.peak_d.value == 0


def test_a_law_that_does_not_turn_has_an_infinite_peak_and_a_bounded_start():
    fitted = one_fit(prompt_curves(Law("best_of_n", 0.5, -0.05), np.random.default_rng(6), units=200, noise=0.1))
    assert fitted.verdict == "still rising"
    assert np.isinf([fitted.peak_d.value, fitted.peak_d.high, fitted.peak_gold.high]).all()
    assert fitted.peak_d.low > D[-1]
    assert fitted.inside < 0.05


def test_points_beyond_the_bound_are_not_looked_at():
    law = Law("best_of_n", 0.6, 0.2)
    gold = prompt_curves(law, np.random.default_rng(7), units=40)
    spoiled = np.where(D > 1.2, 50.0, gold)
    fitted, same = one_fit(gold, fit_up_to=1.2), one_fit(spoiled, fit_up_to=1.2)
    assert fitted == same
    assert fitted.d_max == D[D <= 1.2][-1]


def test_weights_of_zero_leave_points_out_of_the_fit():
    gold = prompt_curves(LAWS[1], np.random.default_rng(8), units=40)
    kept = (D == 0) | (D > 0.3)
    weighted = one_fit(gold, "rl", weights=kept.astype(float))
    fewer = fit_curves(D[kept], gold[:, kept], form="rl", resampling=FEW)
    assert weighted.alpha.low == pytest.approx(fewer.alpha.low)
    assert (weighted.points, weighted.rms) == (fewer.points, pytest.approx(fewer.rms))


def test_order_of_the_points_does_not_matter():
    gold = prompt_curves(LAWS[0], np.random.default_rng(9), units=12)
    order = np.random.default_rng(10).permutation(len(D))
    weights = np.linspace(1, 2, len(D))
    shuffled = fit_curves(D[order], gold[:, order], form="rl", resampling=FEW, weights=weights[order])
    straight = fit_curves(D, gold, form="rl", resampling=FEW, weights=weights)
    assert shuffled == straight


def test_alternatives_are_residuals_of_the_other_law_and_of_a_cubic():
    fitted = one_fit(prompt_curves(LAWS[0], np.random.default_rng(11), units=50))
    mean = prompt_curves(LAWS[0], np.random.default_rng(11), units=50).mean(axis=0)
    mean = mean - mean[0]
    powers = np.stack([D, D**2, D**3], axis=1)
    residual = mean - powers @ np.linalg.lstsq(powers, mean, rcond=None)[0]
    assert fitted.alternatives["cubic"] == pytest.approx(np.sqrt(np.mean(residual[1:] ** 2)))
    rl = fit(D, mean, form="rl")
    assert fitted.alternatives["rl"] == pytest.approx(np.sqrt(np.mean((rl(D) - mean)[1:] ** 2)))
    assert fitted.rms < fitted.noise


def test_one_unit_has_a_law_but_no_interval_and_no_verdict():
    fitted = one_fit(LAWS[0](D)[None])
    assert fitted.alpha.value == pytest.approx(0.6)
    assert np.isnan([fitted.alpha.low, fitted.alpha.high, fitted.inside, fitted.noise]).all()
    assert fitted.verdict == "cannot tell"


def test_two_points_have_no_cubic():
    fitted = fit_curves(
        np.array([0.0, 0.5, 1.0]), np.random.default_rng(0).normal(size=(9, 3)), form="rl", resampling=FEW
    )
    assert np.isnan(fitted.alternatives["cubic"])


def test_bad_input_is_named():
    gold = np.tile(LAWS[0](D), (4, 1))
    spoiled = gold.copy()
    spoiled[2, 5] = np.nan
    with pytest.raises(DataError, match=rf"gold is nan for unit 3 at d = {D[5]:.4g}"):
        one_fit(spoiled)
    with pytest.raises(DataError, match="initial policy is missing"):
        fit_curves(D[1:], gold[:, 1:], form="rl", resampling=FEW)
    with pytest.raises(RecipeError, match="at least one unit"):
        one_fit(gold[:0])
    with pytest.raises(RecipeError, match="2 different distances"):
        one_fit(gold, fit_up_to=float(D[1]))


def test_simulated_pools_start_at_one_sample():
    assert NS[0] == 1
    gold = pools(np.random.default_rng(0), lambda size: np.zeros(size), prompts=500)
    assert gold.mean(axis=0)[NS == 4] == pytest.approx(1.0294, abs=0.02)
