"""Worlds of arithmetic: who learns from what, and what is watched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trueup.errors import DataError
from trueup.lab.arithmetic import worlds
from trueup.lab.arithmetic.policies import MAX_NEW_TOKENS
from trueup.lab.arithmetic.worlds import ArithmeticWorld, Watched, WorldPlan, set_up_world
from trueup.lab.offline_draws import Drawing, draw_from

from ..test_offline_runs import SFT, TINY

PLAN = WorldPlan(policy=TINY, problems=10, drawn=6, pairs=2, watched=9, samples=5)


def short(prompt: str, response: str) -> bool:
    """What a policy that hardly learned anything can get right."""
    return len(response) % 2 == 0


@pytest.fixture(scope="module")
def home(lab) -> Path:
    """What is made for one test is there for the next."""
    return lab


@pytest.fixture
def world(home, monkeypatch) -> ArithmeticWorld:
    monkeypatch.setattr(worlds, "is_correct", short)
    return set_up_world(PLAN, folder=home)


def test_problems_are_apart(world):
    learned, watched, seen = set(world.problems), set(world.watched), set(TINY.own_problems())
    assert (len(learned), len(watched)) == (10, 9)
    assert not learned & watched
    assert not (learned | watched) & seen


def test_hard_problems_are_those_with_the_fewest_right_workings(world, home):
    asked = [one.text for one in world.watched]
    how = Drawing(samples=6, max_new_tokens=MAX_NEW_TOKENS, seed=worlds._OWN_SEED)
    drawn = draw_from(world.start, asked, how, folder=home)
    right = np.array([[short("", text) for text in group] for group in drawn.texts]) & drawn.finished
    assert world.hard.sum() == 3
    assert right.sum(axis=1)[world.hard].max() <= right.sum(axis=1)[~world.hard].min()


def test_preferences_are_the_verifier_s(world):
    rows = world.preferences()
    assert rows == world.preferences()
    assert {row.prompt for row in rows} <= {one.text for one in world.problems}
    for row in rows:
        chosen, rejected = row.responses
        assert (chosen.label, rejected.label) == (True, False)
        assert short("", chosen.text)
    few = world.preferences(problems=world.problems[:2])
    assert {row.prompt for row in few} <= {one.text for one in world.problems[:2]}


def test_preferences_of_another_policy_are_of_its_own_workings(world):
    other = world.train(replace(SFT, steps=4, learning_rate=3e-2, warmup_steps=0), world.preferences())
    assert world.preferences(other) != world.preferences()


def test_a_policy_is_watched_with_the_same_chance_and_once_where_there_is_none(world):
    found = world.watch(world.start)
    assert found.correct.shape == (9,)
    assert found.samples == 5
    assert found.correct.max() <= 5
    assert found.entropy == world.watch(world.start).entropy > 0
    sure = world.watch(world.start, temperature=0.0)
    assert sure.samples == 1
    assert set(sure.correct.tolist()) <= {0, 1}
    assert sure.entropy == pytest.approx(0)


def test_pass_at_k_by_hand():
    """Of 4 workings 2, 0 and 4 are right: one of two is right with 1 - 1/6, 0 and 1."""
    watched = Watched(correct=np.array([2, 0, 4]), samples=4, entropy=1.0, hard=np.array([True, True, False]))
    assert watched.pass_at(1) == pytest.approx(0.5)
    assert watched.pass_at(2) == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert watched.pass_at(2, hard=True) == pytest.approx(5 / 12)


def test_nothing_right_is_said(home, monkeypatch):
    monkeypatch.setattr(worlds, "is_correct", lambda prompt, response: False)
    with pytest.raises(DataError, match="of 60 workings 0 are right"):
        set_up_world(PLAN, folder=home).preferences()
