"""Claims about ensembles under PPO on runs that were made up, and how members disagree about real ones."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.lab.gold_proxy import set_up
from trueup.lab.policy_runs import PolicyRun, reward_of, run_policy
from trueup.lab.reproduce import rm_ensembles
from trueup.lab.reproduce.disagreement import Moments, Spread, spread_along
from trueup.lab.reproduce.fronts import fall_of
from trueup.lab.reproduce.policy_arms import PolicyWorld
from trueup.lab.reproduce.policy_plans import PPO_PASSES, plain
from trueup.lab.reproduce.rm_ensembles import SINGLE
from trueup.lab.reproduce.rm_ensembles_ppo import (
    KINDS,
    MEAN,
    PENALTY,
    UWO,
    arms,
    end_gain,
    evidence_of,
    penalized,
    spreads,
    win_rate,
)
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.report.evidence import evidence_markdown, read_claims
from trueup.rewards.aggregates import Mean, UncertaintyWeighted, WorstCase

from .made_runs import made_looks, made_policy_world

KL = [0, 1, 4, 9, 16]
FALLS = [0, 1, 1.2, 0.2, -1]
HOLDS = [0, 1.2, 1.8, 2, 2]


def page(scale, *, single, ensembles, held_single, held, growth):
    """Three worlds of such gold; `growth` is the disagreement under the mean and under the uncertainty-weighted."""
    worlds = []
    for seed in range(3):
        looks = {}
        for named, one, many in ((str, single, ensembles), (penalized, held_single, held)):
            for kind in KINDS:
                gold = one if kind == SINGLE else many
                # worlds differ a little, or intervals had no width
                looks[named(kind)] = made_looks(KL, [(1 + 0.01 * seed) * value for value in gold])
        worlds.append(made_policy_world(seed, looks))
    found = []
    for seed in range(3):
        spread = {kind: Spread(2.0, 3.0) for kind in KINDS}
        spread[MEAN], spread[UWO] = (Spread(1 + size / 2, 1 + size + 0.01 * seed) for size in growth)
        found.append(spread)
    return evidence_of(worlds, found, scale=scale, command="trueup lab reproduce rm-ensembles-ppo")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(tiny_scale, single=FALLS, ensembles=HOLDS, held_single=FALLS, held=HOLDS, growth=(2.0, 0.2))
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 14
    assert read_claims(evidence_markdown(found)) == tuple(found.claims)


def test_the_opposite_contradicts(tiny_scale):
    found = page(tiny_scale, single=HOLDS, ensembles=FALLS, held_single=HOLDS, held=FALLS, growth=(-0.2, 2.0))
    verdicts = [claim.verdict for claim in found.claims]
    assert verdicts.pop(10) == "not at this scale"
    assert found.claims[10].statement.startswith("The same penalty")
    assert verdicts == ["contradicted"] * 13


def test_nothing_is_no_effect_but_no_fall_is_one(tiny_scale):
    found = page(tiny_scale, single=HOLDS, ensembles=HOLDS, held_single=HOLDS, held=HOLDS, growth=(1.0, 1.0))
    kept = [claim.statement for claim in found.claims if claim.verdict == "reproduced"]
    assert len(kept) == 3
    assert sum("nothing is over-optimised" in statement for statement in kept) == 2
    assert sum("more and more" in statement for statement in kept) == 1


def test_where_nothing_is_gained_nothing_can_be_kept(tiny_scale):
    flat = [0] * len(KL)
    found = page(tiny_scale, single=flat, ensembles=flat, held_single=flat, held=flat, growth=(1.0, 1.0))
    assert not any("over-optimised" in one.statement for one in found.claims if one.verdict != "not at this scale")


def test_the_end_is_the_last_step_that_all_reach():
    world = made_policy_world(0, {"a": made_looks(KL, FALLS), "b": made_looks(KL[:3], [0, 1, 0.5])}, unit=2.0)
    assert end_gain(world, "a", among=("a", "b")) == pytest.approx(0.6)
    assert end_gain(world, "b", among=("a", "b")) == pytest.approx(0.25)
    # Responses lie 0.3 on either side of 1.2 and of 0.5.
    assert win_rate(world, "a", "b", among=("a", "b")) == 1.0
    assert win_rate(world, "b", "b", among=("a", "b")) == 0.5
    assert fall_of(world, "a") == pytest.approx(1.1)
    assert fall_of(world, "b") == pytest.approx(0.25)


def test_disagreement_by_hand():
    """KL 2.25 lies half-way from 1 to 4 in its root."""
    looks, moments = made_looks(KL, FALLS), Moments(kl=2.25, step=15)
    assert moments.needed(looks) == [0, 1, 2, 3]
    found = moments.read(looks, {0: 2.0, 1: 4.0, 2: 8.0, 3: 1.0})
    assert found.at_kl == pytest.approx(3.0)
    assert found.at_end == pytest.approx(0.5)
    none = Moments(kl=0.0, step=15).read(looks, {0: 2.0, 3: 1.0})
    assert np.isnan(none.at_kl)
    assert none.at_end == pytest.approx(0.5)
    assert Moments(kl=99.0, step=0).needed(looks) == [0]


def test_arms_share_members_and_differ_in_aggregate_and_penalty(tiny_scale):
    found, proxies = arms(tiny_scale, 1), rm_ensembles.arms(tiny_scale, 1)
    assert list(found) == [*KINDS, *map(penalized, KINDS)]
    noisy = tuple(run for name, run in proxies.items() if name.endswith("flip 0.25"))
    assert {found[kind].proxies for kind in KINDS if kind != SINGLE} == {noisy}
    assert len(noisy) == tiny_scale.members
    assert found[SINGLE].proxies == noisy[:1]
    assert [type(found[kind].aggregate) for kind in KINDS] == [Mean, WorstCase, UncertaintyWeighted, Mean]
    assert found[UWO].aggregate == UncertaintyWeighted(coefficient=0.1)
    for kind in KINDS:
        assert found[kind].how.terms == (PPO(), ValueLoss())
        assert found[kind].how.rhythm.passes == PPO_PASSES
        how = found[penalized(kind)].how
        assert found[penalized(kind)] == replace(found[kind], how=how)
        assert how == replace(found[kind].how, kl_coefficient=PENALTY)


def test_members_are_asked_about_what_the_policy_said(tiny_scale, little_drawing):
    setup = set_up(tiny_scale.plan(0), folder=tiny_scale.folder)
    looks = {
        kind: run_policy(setup, run, folder=tiny_scale.folder)
        for kind, run in arms(tiny_scale, 0).items()
        if kind in KINDS
    }
    found = spreads(tiny_scale, PolicyWorld(seed=0, setup=setup, looks=looks), kl=0.0)
    members = [
        reward_of(setup, PolicyRun(proxies=(proxy,)), folder=tiny_scale.folder)
        for proxy in arms(tiny_scale, 0)[MEAN].proxies
    ]
    for kind in KINDS:
        first, last = (
            np.var([one.score(setup.pool.prompts, looks[kind].texts[k]).reward for one in members], axis=0).mean()
            for k in (0, -1)
        )
        assert found[kind].at_end == pytest.approx(last / first, rel=1e-4)


def test_one_model_has_no_members_to_disagree(tiny_scale):
    setup = set_up(tiny_scale.plan(0), folder=tiny_scale.folder)
    reward = reward_of(setup, plain(tiny_scale, 0), folder=tiny_scale.folder)
    looks = replace(made_looks([0, 1], [0, 1]), texts=((("a", "b"),) * len(setup.pool.prompts),) * 2)
    with pytest.raises(TypeError, match="no members"):
        spread_along(looks, moments=Moments(kl=0.0, step=5), reward=reward, prompts=setup.pool.prompts)
