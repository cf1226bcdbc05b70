"""Claims about sum-to-zero under RLOO on runs that were made up."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.lab.reproduce import bsr_rloo
from trueup.lab.reproduce.bsr import arm_name, terms_of
from trueup.lab.reproduce.bsr_rloo import length_at, reward_spread_at, roughness, spread_growth_at
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.report.evidence import evidence_markdown, read_claims

from .made_runs import made_looks, made_policy_world, made_scored_world

D = np.linspace(0.0, 6.0, 16)
ROUGH = np.tile([1.0, -1.0], 8)
NAMES = (FREE, "BSR 0.01", "BSR 0.1")


def run_of(*, gold, rough, length, spread, seed):
    means = gold * D - 0.05 * D**2 + 0.01 * seed * D + (rough + 0.01 * seed) * ROUGH * (D > 0)
    tokens = 20 + np.round(length * D).astype(int)
    return made_looks((D**2).tolist(), means.tolist(), tokens=tokens.tolist(), spread=1 + (spread + 0.01 * seed) * D)


def worlds_of(bt, better, worse):
    return [
        made_policy_world(
            seed, {name: run_of(**kind, seed=seed) for name, kind in zip(NAMES, (bt, better, worse), strict=True)}
        )
        for seed in range(5)
    ]


BT = {"gold": 0.2, "rough": 0.2, "length": 3.0, "spread": 0.5}
BETTER = {"gold": 0.4, "rough": 0.05, "length": 1.0, "spread": 0.1}
WORSE = {"gold": 0.1, "rough": 0.4, "length": 5.0, "spread": 0.9}


def test_what_is_better_is_reproduced_and_what_is_worse_contradicts(tiny_scale):
    worlds = worlds_of(BT, BETTER, WORSE)
    scored = [made_scored_world(seed, NAMES, error=0.5) for seed in range(5)]
    found = bsr_rloo.evidence(worlds, scored, scale=tiny_scale, command="trueup lab reproduce bsr-rloo")
    claims = read_claims(evidence_markdown(found))
    assert claims == tuple(found.claims)
    assert [claim.verdict for claim in claims] == ["reproduced"] * 4 + ["contradicted"] * 4
    assert all("BSR 0.01" in claim.statement for claim in claims[:4])
    assert "| BT |" in evidence_markdown(found)
    assert FREE not in found.finding


def test_the_same_runs_show_no_effect(tiny_scale):
    worlds = worlds_of(BT, BT, BT)
    claims = bsr_rloo.arm_claims(worlds, "BSR 0.1", kls=[1.0, 4.0])
    assert {claim.verdict for claim in claims} == {"not at this scale"}


def test_lengths_and_spreads_by_hand():
    """Rewards lie `spread` from their mean, half of them on either side: that is their standard deviation."""
    run = made_looks([0, 1, 9], [0, 0, 0], tokens=[10, 20, 40], spread=[2.0, 3.0, 5.0])
    world = made_policy_world(0, {"a": run})
    assert length_at(world, "a", 4.0) == pytest.approx(30)
    assert reward_spread_at(world, "a", 4.0) == pytest.approx(4.0)
    assert spread_growth_at(world, "a", 4.0) == pytest.approx(2.0)


def test_a_cubic_is_smooth_and_what_leaves_it_is_not():
    cubic = 0.3 * D - 0.2 * D**2 + 0.02 * D**3
    assert roughness(made_looks((D**2).tolist(), cubic.tolist()), end=40.0) == pytest.approx(0, abs=1e-9)
    generator = np.random.default_rng(0)
    noise = 0.1 * generator.standard_normal(len(D))
    fit = np.polynomial.Polynomial.fit(D[:11], (cubic + noise)[:11], 3)
    expected = np.sqrt(np.sum(((cubic + noise)[:11] - fit(D[:11])) ** 2) / 7)
    rough = made_looks((D**2).tolist(), (cubic + noise).tolist())
    assert roughness(rough, end=16.0) == pytest.approx(expected)
    assert np.isnan(roughness(made_looks([0, 1, 4, 9], [0, 1, 2, 3]), end=40.0))


def test_arms_are_the_shared_ones(tiny_scale):
    """Plain RLOO, and proxies of the very plans of the page on best-of-n."""
    found = bsr_rloo.arms(tiny_scale, 2)
    assert list(found) == list(NAMES)
    assert found[FREE] == plain(tiny_scale, 2)
    (proxy,) = found["BSR 0.1"].proxies
    assert proxy.plan == replace(tiny_scale.proxy_plan(2), terms=(BradleyTerry(), BatchSumToZero(coefficient=0.1)))
    assert found["BSR 0.1"].how == plain(tiny_scale, 2).how
    assert proxy.plan.terms == terms_of(0.1)
    assert arm_name(0.1) == "BSR 0.1"
