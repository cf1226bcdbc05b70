"""WARP's claims on hand-made runs, and merges of runs that were really carried out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trueup.anchors import ExponentialAverage
from trueup.anchors.warp import Geometry
from trueup.functional.params import slerp
from trueup.lab.gold_proxy import set_up
from trueup.lab.policy_runs import run_policy
from trueup.lab.reproduce import warp as module
from trueup.lab.reproduce.policy_arms import PolicyWorld
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.lab.reproduce.scale import full_scale
from trueup.lab.reproduce.warp import (
    ALONE,
    ETAS,
    FIXED,
    MOVING,
    SECOND,
    SLERP,
    _merges,
    arms,
    evidence_of,
    finals_of,
    geometry_of,
    look_at_merges,
    merged_gain,
    rate_of,
    with_fronts,
)
from trueup.models.policy_checkpoints import load_policy_checkpoint

from .made_runs import made_looks, made_policy_world

FAR = Geometry(cosine=0.1, norm_ratio=1.0, slerp_norm=1.0, lerp_norm=0.74)
CLOSE = Geometry(cosine=0.99, norm_ratio=1.0, slerp_norm=1.0, lerp_norm=1.0)
ROAD = np.array([0.0, 1, 4, 9, 16])
RUNS = {
    FREE: made_looks(ROAD, 0.5 * np.sqrt(ROAD), proxy=0.5 * np.sqrt(ROAD)),
    FIXED: made_looks(ROAD[:3], 0.7 * np.sqrt(ROAD[:3]), proxy=0.7 * np.sqrt(ROAD[:3])),
    MOVING: made_looks(ROAD, np.sqrt(ROAD), proxy=np.sqrt(ROAD)),
    SECOND: made_looks(ROAD, np.sqrt(ROAD), proxy=np.sqrt(ROAD)),
}


def merges(slerp_slope: float, alone_slope: float, mean: tuple[float, float]):
    """The spherical front and the front of one run along a road of their own, then the mean's KL and rewards."""
    kl = np.array([1.0, 4, 9, 16])
    height = np.concatenate([slerp_slope * np.sqrt(kl), alone_slope * np.sqrt(kl), [mean[1]]])
    return made_looks(np.concatenate([kl, kl, [mean[0]]]), height, proxy=height)


def verdicts(looks, shape, runs=RUNS) -> dict[str, str]:
    worlds = [made_policy_world(seed, runs) for seed in range(3)]
    page = evidence_of(worlds, [looks] * 3, [shape] * 3, scale=full_scale(seeds=3), command="trueup")
    return {claim.statement: claim.verdict for claim in page.claims}


def test_runs_as_the_paper_has_them_reproduce_its_claims():
    assert set(verdicts(merges(1.4, 1.2, (8.0, 3.0)), FAR).values()) == {"reproduced"}


def test_merges_that_do_worse_contradict_them():
    found = verdicts(merges(0.6, 0.8, (20.0, 9.0)), CLOSE)
    contradicted = [statement for statement, verdict in found.items() if verdict == "contradicted"]
    assert sum("front than one" in statement for statement in contradicted) == 2
    assert sum("lies above" in statement for statement in contradicted) == 4
    assert "SLERP of two runs has more of the optimised reward than their mean." in contradicted
    assert "The mean of two runs is nearer to the start than their SLERP." in contradicted
    assert "Task vectors of two runs are nearly at right angles." in contradicted
    assert found["SLERP keeps the length of task vectors that their mean loses."] == "not at this scale"


def test_an_anchor_that_does_worse_contradicts_the_claims_about_it():
    swapped = {**RUNS, FREE: RUNS[MOVING], FIXED: made_looks(ROAD, 2 * np.sqrt(ROAD), proxy=2 * np.sqrt(ROAD)),
               MOVING: RUNS[FREE]}  # fmt: skip
    found = verdicts(merges(1.4, 1.2, (8.0, 3.0)), FAR, swapped)
    assert [verdict for statement, verdict in found.items() if "oving anchor" in statement] == ["contradicted"] * 5


def test_fronts_begin_at_the_start():
    looks = merges(1.4, 1.2, (8.0, 3.0))
    world = with_fronts(made_policy_world(0, RUNS), looks)
    for name, slope in ((SLERP, 1.4), (ALONE, 1.2)):
        assert world.looks[name].gold.mean(axis=(1, 2)) == pytest.approx(slope * np.array([0, 1, 2, 3, 4]))
        assert world.looks[name].kl.mean(axis=(1, 2)) == pytest.approx(ROAD)
    assert merged_gain(world, looks, what="kl") == pytest.approx(16 - 8)
    assert merged_gain(world, looks, what="gold") == pytest.approx(1.4 * 4 - 3)


def test_arms_are_the_card_s():
    scale = full_scale()
    found = arms(scale, 3)
    assert list(found) == [FREE, FIXED, MOVING, SECOND]
    assert found[FREE] == plain(scale, 3)
    assert found[FIXED] == plain(scale, 3, kl_coefficient=0.1)
    assert found[MOVING].how.anchor == found[SECOND].how.anchor == ExponentialAverage(decay=0.95)
    assert found[MOVING].how.kl_coefficient == 0.1
    assert replace(found[SECOND].how, seed=found[MOVING].how.seed) == found[MOVING].how
    assert found[SECOND].how.seed != found[MOVING].how.seed
    assert found[MOVING].keep
    assert found[SECOND].keep
    assert rate_of(scale) == pytest.approx(0.05)


def test_merges_of_runs_that_were_carried_out(tiny_scale, little_drawing, monkeypatch, tmp_path):
    setup = set_up(tiny_scale.plan(0), folder=tiny_scale.folder)
    looks = {name: run_policy(setup, run, folder=tiny_scale.folder) for name, run in arms(tiny_scale, 0).items()
             if name in (MOVING, SECOND)}  # fmt: skip
    world = PolicyWorld(seed=0, setup=setup, looks=looks)
    found = look_at_merges(tiny_scale, world)
    assert len(found.step) == 2 * len(ETAS) + 1
    # All of the way along one run is that run's end, which was looked at with the same random numbers.
    last = 2 * len(ETAS) - 1
    assert found.texts[last] == looks[MOVING].texts[-1]
    assert found.kl[last] == pytest.approx(looks[MOVING].kl[-1], abs=1e-4)
    assert found.gold[last] == pytest.approx(looks[MOVING].gold[-1])
    assert found.texts[0] != looks[MOVING].texts[-1]
    shape = geometry_of(tiny_scale, world)
    assert shape.lerp_norm < shape.slerp_norm == pytest.approx(1.0, abs=0.05)
    places = _merges(setup.policy, finals_of(tiny_scale, world), tmp_path)
    start, first, second, merged, mean = (
        load_policy_checkpoint(place, dtype=torch.float32).model.pretrained.model.norm.weight.detach()
        for place in (setup.policy, *finals_of(tiny_scale, world), places[len(ETAS) - 1], places[-1])
    )
    assert torch.allclose(merged, slerp(start, first, second, 0.5), atol=1e-6)
    assert torch.allclose(mean, (first + second) / 2, atol=1e-6)
    monkeypatch.setattr(module, "look_at_each", None)
    assert np.array_equal(look_at_merges(tiny_scale, world).kl, found.kl)
