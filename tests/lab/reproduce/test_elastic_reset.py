"""Elastic Reset's claims on hand-made runs, and its arms."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.anchors import ElasticReset, ResetToAverage, ResetToInit
from trueup.lab.reproduce import elastic_reset as module
from trueup.lab.reproduce.elastic_reset import (
    AVERAGE,
    ELASTIC,
    INIT,
    LATE,
    PENALTY,
    RESETS,
    arms,
    elastic_reset,
    period_of,
    resets_of,
)
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.lab.reproduce.scale import full_scale

from .made_runs import made_looks, made_policy_world

PERIOD = 10
GOING_ON = made_looks([0, 2, 5, 9, 14, 20, 27], [0, 1, 1.2, 1, 0.5, 0, -1], proxy=[0, 2, 4, 5, 6, 6.5, 7])
GOING_BACK = made_looks([0, 2, 1, 3, 1.5, 4, 2], [0, 1, 1, 2, 2, 3, 3], proxy=[0, 2, 1.8, 4, 3.8, 7, 6.8])
STARTING_OVER = made_looks([0, 2, 0, 2, 0, 2, 0], [0, 1, 0, 1, 0, 1, 0], proxy=[0, 2, 0, 1.9, 0, 1.9, 0])


def worlds(elastic=GOING_BACK):
    looks = {FREE: GOING_ON, PENALTY: GOING_ON, AVERAGE: GOING_ON, INIT: STARTING_OVER, ELASTIC: elastic, LATE: elastic}
    return [made_policy_world(seed, looks) for seed in range(3)]


def test_arms_are_the_card_s():
    scale = full_scale()
    found = arms(scale, 1)
    assert set(found) == {FREE, PENALTY, *RESETS}
    assert found[FREE] == plain(scale, 1)
    assert found[PENALTY] == plain(scale, 1, kl_coefficient=0.05)
    anchors = {name: run.how.anchor for name, run in found.items()}
    assert [type(anchors[name]) for name in RESETS] == [ElasticReset, ElasticReset, ResetToAverage, ResetToInit]
    assert {anchors[name].period for name in RESETS} == {period_of(scale)} == {25}
    assert anchors[ELASTIC].decay == anchors[AVERAGE].decay == pytest.approx(0.9504, abs=1e-4)
    assert anchors[LATE].decay ** 25 == pytest.approx(0.995**1040, rel=0.02)
    assert all(run.how.kl_coefficient == 0 for name, run in found.items() if name != PENALTY)


@pytest.mark.parametrize(("steps", "period"), [(100, 25), (30, 10), (40, 10), (4, 5)])
def test_resets_fall_on_looks(steps, period):
    assert period_of(replace(full_scale(), policy_steps=steps)) == period


def test_resets_by_hand():
    """The proxy's unit is sqrt(2); the last reset ends the run, so that no recovery can be seen."""
    found = resets_of(worlds()[0], ELASTIC, PERIOD)
    assert [one.kl for one in found] == [pytest.approx(pair) for pair in ((2, 1), (3, 1.5), (4, 2))]
    assert [one.reward for one in found] == [
        pytest.approx((a / 2**0.5, b / 2**0.5)) for a, b in ((2, 1.8), (4, 3.8), (7, 6.8))
    ]
    assert [one.recovery for one in found] == [5.0, 5.0, pytest.approx(np.nan, nan_ok=True)]
    assert [one.recovery for one in resets_of(worlds()[0], INIT, PERIOD)][:2] == [10.0, 5.0]


def page(made, monkeypatch):
    monkeypatch.setattr(module, "run_policies", lambda scale, arms, progress=False: made)
    monkeypatch.setattr(module, "period_of", lambda scale: PERIOD)
    return elastic_reset(full_scale(seeds=3), command="trueup lab reproduce elastic-reset")


def test_runs_as_the_paper_has_them_reproduce_its_claims(monkeypatch):
    found = page(worlds(), monkeypatch)
    verdicts = {claim.statement: claim.verdict for claim in found.claims}
    alike = verdicts.pop("At equal steps answers have kept more of the start's words.")
    assert alike == "not at this scale"  # all texts are the same
    assert set(verdicts.values()) == {"reproduced"}
    # The best golds within 2, 4 and 8 nats are 3, 3, 3 against 1, 1, 1.2.
    assert found.finding.endswith("1.93 [1.93, 1.93]")
    assert next(claim for claim in found.claims if claim.statement.startswith("A reset takes")).effect.startswith(
        f"{(1.8 + 3.8 + 6.8) / 13 - 4.5 / 9:.2f} ["
    )


def test_runs_that_are_like_a_reset_to_the_start_do_not(monkeypatch):
    verdicts = {claim.statement: claim.verdict for claim in page(worlds(STARTING_OVER), monkeypatch).claims}
    assert verdicts["At equal steps the optimised reward is higher."] == "contradicted"
    assert verdicts["At equal steps the policy has drifted less."] == "reproduced"
    assert verdicts["A reset costs less reward than going back to the start."] == "not at this scale"
    assert verdicts["At low to middle drift more optimised reward is reached than without resets."] == "contradicted"


def test_words_that_are_kept_are_seen(monkeypatch):
    """The run without resets ends with other words than it began with."""
    spoken = [["the cat sat on the mat", "the cat sat on a mat"]] * 3
    other = [["of nothing much"] * 2] * 3
    kept = replace(GOING_BACK, texts=(spoken,) * 7)
    lost = replace(GOING_ON, texts=(spoken,) + (other,) * 6)
    made = [replace(world, looks={**world.looks, ELASTIC: kept, FREE: lost}) for world in worlds()]
    verdicts = {claim.statement: claim.verdict for claim in page(made, monkeypatch).claims}
    assert verdicts["At equal steps answers have kept more of the start's words."] == "reproduced"
