"""Claims about RL on runs that follow a known law."""

import numpy as np
import pytest

from trueup.errors import RecipeError
from trueup.lab.reproduce import scaling_laws_rl
from trueup.lab.reproduce.gathering import RESAMPLING
from trueup.lab.reproduce.policy_arms import gold_gain
from trueup.lab.reproduce.policy_pages import against_distance, proxy_gain, proxy_spread, run_curves, shared_distances
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.lab.reproduce.scaling_laws_rl_claims import (
    _extra,
    coefficients,
    distance_at_equal_step,
    distance_of_gain,
    growth_power,
    rise_and_fall,
)
from trueup.measure.laws import Law, fit_curves
from trueup.report.evidence import evidence_markdown, read_claims

from .made_runs import made_looks, made_policy_world, made_scored_world

STEPS = np.arange(31)
SLOPE = 0.2
SIZES = {"width 8": 1_000, FREE: 10_000}


def looks_of(law, *, slope=SLOPE, proxy=1.0, noise=0.0):
    """A run whose d grows by `slope` a look, so that KL is quadratic in steps."""
    d = slope * STEPS
    return made_looks((d**2).tolist(), (law(d) + noise).tolist(), proxy=(proxy * d).tolist())


def worlds_of(free, small, *, penalised=None, slow=0.12, proxy=1.0):
    """Five worlds, each with its own alpha; a penalised run goes the same way, more slowly and with more proxy."""
    worlds = []
    for seed in range(5):
        looks = {
            name: looks_of(Law(law.form, law.alpha + 0.01 * seed, law.beta), proxy=proxy)
            for name, law in ((FREE, free), ("width 8", small))
        }
        other = penalised or free
        again = Law(other.form, other.alpha + 0.01 * seed, other.beta)
        for name in ("KL penalty 0.05", "KL penalty 0.2"):
            looks[name] = looks_of(again, slope=slow, proxy=proxy * (1.1 + 0.01 * seed))
        worlds.append(made_policy_world(seed, looks))
    return worlds


def verdicts(worlds, tiny_scale):
    scored = [made_scored_world(seed, list(SIZES), error=0.5, parameters=SIZES) for seed in range(5)]
    found = scaling_laws_rl.evidence(worlds, scored, scale=tiny_scale, command="trueup lab reproduce scaling-laws-rl")
    assert read_claims(evidence_markdown(found)) == tuple(found.claims)
    return {claim.statement: claim.verdict for claim in found.claims}


RISES = "Gold rises at first as RL optimises the proxy."
FALLS = "Beyond a peak gold falls while the proxy goes on rising."
FORMS = "Under RL d (alpha - beta log d) "
BETA = "beta falls with the logarithm of the proxy's parameters."
ALPHA = "alpha does not depend on the proxy's parameters."
GROWS = "Without a penalty KL grows about quadratically with steps."
PEAK = "RL reaches its gold peak at a larger KL than best-of-n."
SPENDS = "RL spends more KL than best-of-n for the same gain of the proxy."


def test_runs_that_follow_the_paper_reproduce_it(tiny_scale):
    """Gold of these runs is highest at d = exp(.8 / .5 - 1) = 1.8 to 2.0."""
    worlds = worlds_of(Law("rl", 0.8, 0.5), Law("rl", 0.8, 0.9))
    assert set(verdicts(worlds, tiny_scale).values()) == {"reproduced"}


def test_runs_that_contradict_the_paper_are_said_to(tiny_scale):
    """Gold only falls, by the law of best-of-n; smaller proxies fare better; the penalty costs gold and saves no KL."""
    free, small = Law("best_of_n", -0.3, 0.05), Law("best_of_n", 0.2, 0.01)
    worlds = worlds_of(free, small, penalised=Law("best_of_n", -1.0, 0.05), slow=SLOPE + 0.02, proxy=3.0)
    found = verdicts(worlds, tiny_scale)
    assert found[RISES] == "contradicted"
    assert all(verdict == "contradicted" for name, verdict in found.items() if name.startswith(FORMS + "fits"))
    assert found[BETA] == found[ALPHA] == "contradicted"
    for coefficient in ("0.05", "0.2"):
        assert found[f"A KL penalty of {coefficient} does not change gold at equal KL."] == "contradicted"
        assert found[f"A KL penalty of {coefficient} stops the growth of KL earlier."] == "contradicted"
        assert (
            found[f"A KL penalty of {coefficient} widens the gap between proxy and gold at equal KL."] == "reproduced"
        )
    assert found[PEAK] == "contradicted"
    assert found[SPENDS] == "contradicted"


@pytest.mark.parametrize(
    ("law", "proxy", "verdict"),
    [
        (Law("best_of_n", 0.5, 0.0), 1.0, "not at this scale"),
        (Law("best_of_n", 0.5, 0.1), 1.0, "reproduced"),
        (Law("best_of_n", 0.5, 0.1), -1.0, "contradicted"),
    ],
    ids=["gold never falls", "gold falls", "so does the proxy"],
)
def test_over_optimisation_needs_gold_to_fall_while_the_proxy_rises(law, proxy, verdict):
    worlds = worlds_of(law, law, proxy=proxy)
    curves = run_curves(worlds, FREE, shared_distances(worlds, [FREE]))
    fit = fit_curves(curves.d, curves.gold, form="rl", resampling=RESAMPLING, groups=curves.world)
    rises, falls = rise_and_fall(worlds, fit)
    assert (rises.statement, rises.verdict) == (RISES, "reproduced")
    assert (falls.statement, falls.verdict) == (FALLS, verdict)


def test_curves_are_read_off_each_world_at_the_same_distances():
    worlds = worlds_of(Law("rl", 0.8, 0.5), Law("rl", 0.8, 0.9))
    d = shared_distances(worlds, [FREE, "KL penalty 0.2"])
    assert d[0] == 0
    assert d[1] == pytest.approx(0.3)
    assert d[-1] == pytest.approx(0.12 * 30)
    curves = run_curves(worlds, FREE, d)
    assert curves.gold.shape == (15, 13)
    assert curves.by_world()[3, 7] == pytest.approx(gold_gain(worlds[3], FREE, float(d[7] ** 2)))
    end = run_curves(worlds, FREE, shared_distances(worlds, [FREE]))
    assert np.isfinite(end.gold).all()
    found = coefficients(end)
    assert found[:, 0] == pytest.approx(0.8 + 0.01 * np.arange(5), abs=0.02)
    assert found[:, 1] == pytest.approx([0.5] * 5, abs=0.02)


def test_a_policy_that_did_not_move_has_no_curve():
    worlds = [made_policy_world(0, {"a": made_looks([0, -0.1], [0, 1])})]
    with pytest.raises(RecipeError, match="did not move"):
        shared_distances(worlds, ["a"])
    assert against_distance(worlds, ["a"])["a"].d == [0.0]


def test_proxies_are_in_units_of_the_start():
    """Rewards 2 below and above their mean: variance 8 of two samples."""
    world = made_policy_world(0, {"a": made_looks([0, 1, 4], [0, 0, 0], proxy=[1, 3, 6], spread=2.0)})
    assert proxy_spread(world, "a") == pytest.approx(8**0.5)
    assert proxy_gain(world, "a", 4.0) == pytest.approx(5 / 8**0.5)


def test_growth_is_a_power_of_steps():
    assert growth_power(looks_of(Law("rl", 0.8, 0.5))) == pytest.approx(2.0)
    linear = made_looks((0.5 * STEPS).tolist(), STEPS.tolist())
    assert growth_power(linear) == pytest.approx(1.0)
    assert np.isnan(growth_power(made_looks([0, 0.05, 0.2], [0, 0, 0])))


def test_distances_at_equal_steps_and_equal_gains():
    one, other = made_looks([0, 1, 4, 9], [0] * 4), made_looks([0, 4, 25], [0] * 3)
    assert distance_at_equal_step(one, other) == pytest.approx(2 - 5)
    run = made_looks([0, 1, 9], [0] * 3, proxy=[5, 6, 8])
    assert distance_of_gain(run, 0.5) == pytest.approx(0.5)
    assert distance_of_gain(run, 2.0) == pytest.approx(2.0)
    assert distance_of_gain(run, -1.0) == 0.0
    assert np.isnan(distance_of_gain(run, 3.5))


def test_a_run_that_never_gains_as_much_counts_with_the_distance_it_reached():
    """Best of 4 is at KL log 4 - 3/4; the run ends at d = 3, or at d = 0.5 and tells nothing."""
    spent = (np.log(4) - 0.75) ** 0.5
    run = made_looks([0, 1, 9], [0] * 3, proxy=[5, 6, 8])
    assert _extra(run, 2.0, n=4) == pytest.approx(2.0 - spent)
    assert _extra(run, 99.0, n=4) == pytest.approx(3.0 - spent)
    assert np.isnan(_extra(made_looks([0, 0.25], [0] * 2), 99.0, n=4))


def test_arms_are_the_shared_ones(tiny_scale):
    found = scaling_laws_rl.arms(tiny_scale, 3)
    assert list(found) == [FREE, "KL penalty 0.05", "KL penalty 0.2", "width 8"]
    assert found[FREE] == plain(tiny_scale, 3)
    assert found["KL penalty 0.2"] == plain(tiny_scale, 3, kl_coefficient=0.2)
    (small,) = found["width 8"].proxies
    assert small.trunk == tiny_scale.trunk(3, tiny_scale.trunks[0])
    assert list(scaling_laws_rl.proxies(tiny_scale, 3)) == ["width 8", FREE]
