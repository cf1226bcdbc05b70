"""Claims about H-DPO on worlds that were made up, its arms, and one world carried out."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from trueup.lab.arithmetic import worlds as arithmetic_worlds
from trueup.lab.arithmetic.worlds import Watched, WorldPlan
from trueup.lab.offline_runs import OfflineTraining
from trueup.lab.reproduce import h_dpo_runs
from trueup.lab.reproduce.h_dpo import evidence_of
from trueup.lab.reproduce.h_dpo_runs import (
    ALPHAS,
    BETA,
    OTHERS,
    PLAIN,
    TEMPERATURES,
    HDpoWorld,
    arm,
    arms,
    over_seeds,
    run_world,
    scaled,
    sizes_of_k,
    weak,
    world_plan,
)
from trueup.lab.reproduce.scale import full_scale, quick_scale
from trueup.measure.pass_at_k import pass_at_k
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.report.evidence import evidence_markdown, read_claims

from ..test_offline_runs import TINY
from .made_verified import made_h_dpo_world


def page(scale, **how):
    worlds = [made_h_dpo_world(seed, **how) for seed in range(3)]
    return evidence_of(worlds, scale=scale, command="trueup lab reproduce h-dpo")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(
        tiny_scale,
        entropy=lambda a: 2 * a,
        solved=lambda a: 0.032 if a > 1.15 else 0.03 - 0.05 * (a - 1),
        tempered=lambda t: 0.01,
        scaled_entropy=lambda a: 5.0,
        scaled_solved=lambda a: 0.01,
    )
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 16
    assert read_claims(evidence_markdown(found)) == tuple(found.claims)
    assert "\u22120.80" in found.finding


def test_the_opposite_contradicts(tiny_scale):
    found = page(
        tiny_scale,
        entropy=lambda a: -2 * a + 5,
        solved=lambda a: 0.02 + 0.05 * (a - 0.8),
        tempered=lambda t: 0.9,
        scaled_entropy=lambda a: 0.0,
        scaled_solved=lambda a: 0.9,
    )
    verdicts = [claim.verdict for claim in found.claims]
    wider = next(k for k, claim in enumerate(found.claims) if "more diverse" in claim.statement)
    assert verdicts.pop(wider) == "reproduced"
    assert set(verdicts) == {"contradicted"}


def test_equal_arms_decide_nothing(tiny_scale):
    found = page(tiny_scale, entropy=lambda a: 3.0, solved=lambda a: 0.25)
    assert {claim.verdict for claim in found.claims} == {"not at this scale"}


def test_figures_and_tables_hold_every_arm(tiny_scale):
    found = page(tiny_scale, entropy=lambda a: a, solved=lambda a: 0.25)
    text = evidence_markdown(found)
    for name in (*map(arm, ALPHAS), *map(scaled, OTHERS), *map(weak, ALPHAS)):
        assert f"| {name} |" in text
    assert set(re.findall(r"\]\(([\w-]+\.svg)\)", text)) == set(found.figures)
    assert "DPO at temperature 0.9" in text


def test_arms_are_the_card_s():
    found = arms(full_scale(), 3)
    assert ALPHAS == (0.8, 0.9, 1.0, 1.1, 1.2)
    assert found[arm(0.8)].terms == (HDPO(beta=BETA, alpha=0.8),)
    assert found[scaled(0.8)].terms == (DPO(beta=0.8 * BETA),)
    assert found[weak(1.2)].terms == (HDPO(beta=0.1, alpha=1.2),)
    assert {(how.steps, how.seed) for how in found.values()} == {(200, 3)}
    assert len(found) == 14
    assert set(temperatures := h_dpo_runs.temperatures_of(PLAIN)) == {*TEMPERATURES, *ALPHAS}
    assert list(temperatures) == sorted(temperatures)


def test_sizes_follow_the_scale():
    full, quick = world_plan(full_scale(), 4), world_plan(quick_scale(), 4)
    assert (full.policy.problems, full.problems, full.watched, full.samples) == (6000, 600, 96, 128)
    assert (quick.policy.problems, quick.problems, quick.watched, quick.samples) == (4000, 180, 32, 32)
    assert {full.policy.seed, quick.policy.seed} == {4}


def test_the_best_temperature_is_the_other_half_s_choice():
    """At 0.6 half of the problems are always solved and the others never; at 1 all are in a half of cases.

    Whoever is measured at the temperature that is best for themselves would reach three quarters.
    """
    lucky = np.repeat([4, 0], 6)
    looks = {t: Watched(correct=lucky if t == 0.6 else np.full(12, 1), samples=4, entropy=1.0,
                        hard=np.ones(12, bool)) for t in TEMPERATURES}  # fmt: skip
    world = HDpoWorld(seed=0, start=looks[1.0], pairs=1, looks={"a": looks})
    tables = {t: pass_at_k(look.correct, 4, [1])[:, 0] for t, look in looks.items()}
    half = np.random.default_rng(0).permutation(12) % 2
    expected = np.zeros(12)
    for side in (0, 1):
        best = max(TEMPERATURES, key=lambda t: tables[t][half == side].mean())
        expected[half != side] = tables[best][half != side]
    assert world.at_best("a", 1) == pytest.approx(expected.mean())
    assert world.at_best("a", 1, hard=True) == world.at_best("a", 1)


def test_samples_bound_k():
    few = made_h_dpo_world(0, entropy=lambda a: 1.0, solved=lambda a: 0.5)
    assert sizes_of_k([few]) == (1, 4, 16, 64)
    assert sizes_of_k([replace(few, start=replace(few.start, samples=6)), few]) == (1, 4)


def test_one_world_is_carried_out_and_read_again(tiny_scale, monkeypatch):
    """With two alphas, and a verifier that a policy of seconds can please."""
    for name, values in (("ALPHAS", (0.8, 1.0)), ("OTHERS", (0.8,)), ("TEMPERATURES", (0.8, 1.0))):
        monkeypatch.setattr(h_dpo_runs, name, values)
    monkeypatch.setattr(h_dpo_runs, "WorldPlan", partial(WorldPlan, policy=TINY))
    monkeypatch.setattr(arithmetic_worlds, "is_correct", lambda prompt, response: len(response) % 2 == 0)
    found = run_world(tiny_scale, 0)
    assert set(found.looks) == {arm(0.8), PLAIN, scaled(0.8), weak(0.8), weak(1.0)}
    assert set(found.looks[PLAIN]) == {0.8, 1.0}
    assert found.entropy(arm(0.8)) != found.entropy(PLAIN) != found.start.entropy
    assert found.pairs > 0

    def no_training(*args, **options):
        raise AssertionError("this trains")

    monkeypatch.setattr("trueup.lab.offline_runs._train", no_training)
    monkeypatch.setattr("trueup.lab.offline_draws._draw", no_training)
    again = run_world(tiny_scale, 0)
    assert again.entropy(PLAIN) == found.entropy(PLAIN)
    assert again.solved(arm(0.8), 1) == found.solved(arm(0.8), 1)


def test_seeds_are_run_in_order(tiny_scale):
    assert over_seeds(lambda scale, seed: (len(scale.seeds), seed), tiny_scale) == [(2, 0), (2, 1)]


def test_training_is_what_it_says():
    assert OfflineTraining(terms=(DPO(),)).paired
    assert OfflineTraining(terms=(DPO(),)).needs == {"reference"}
