"""Offline trainings: each done once, of the rows' own labels and features, for any terms."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trueup.data.rows import Origin, Response, Row
from trueup.errors import DataError, RecipeError
from trueup.lab import offline_runs
from trueup.lab.arithmetic.policies import ArithmeticPlan, build_arithmetic_policy
from trueup.lab.arithmetic.problems import demonstrations, draw_problems
from trueup.lab.fitting import Fit
from trueup.lab.offline_draws import likelihoods
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, cost_of, run_offline, weights_key
from trueup.lab.scale_models import Shape
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.objectives.preference.inpo import INPO
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.supervised.sft import NegativeLogLikelihood

TINY = ArithmeticPlan(
    problems=40,
    shape=Shape(width=16, layers=1, heads=2, positions=64),
    fit=Fit(learning_rate=1e-2, batch_size=16, epochs=2.0),
)
SFT = OfflineTraining(terms=(NegativeLogLikelihood(),), steps=2, batch_size=4, learning_rate=1e-3)


def no_training(*args, **options):
    raise AssertionError("this trains")


@pytest.fixture(scope="module")
def home(lab) -> Path:
    """What is made for one test is there for the next."""
    return lab


@pytest.fixture(scope="module")
def start(home) -> Path:
    return build_arithmetic_policy(TINY, folder=home / "policies")


@pytest.fixture(scope="module")
def other(home) -> Path:
    return build_arithmetic_policy(replace(TINY, seed=1), folder=home / "policies")


ROWS = tuple(demonstrations(draw_problems(6, seed=3), responses=1, slip=0.0, seed=3))


def row(prompt: str, *responses: Response, number: int = 1) -> Row:
    return Row(prompt=prompt, responses=responses, id=str(number), origin=Origin("made", number))


PAIRS = tuple(
    row(f"1{n}+2{n}=", Response(text="3", label=True), Response(text="7", label=False), number=n) for n in range(6)
)


def weights(folder: Path) -> torch.Tensor:
    held = load_file(folder / "model.safetensors")
    return torch.cat([held[name].flatten() for name in sorted(held)])


def same(one: Path, other: Path) -> bool:
    return torch.equal(weights(one), weights(other))


def test_a_run_is_done_once(start, home, monkeypatch):
    run = OfflineRun(start=start, rows=ROWS, how=SFT)
    trained = run_offline(run, folder=home)
    assert not same(trained, start)
    assert cost_of(trained).rows == 6
    assert cost_of(trained).dropped == 0
    assert cost_of(trained).seconds > 0
    monkeypatch.setattr(offline_runs, "_train", no_training)
    assert run_offline(run, folder=home) == trained
    (trained / "offline.json").unlink()
    with pytest.raises(AssertionError, match="this trains"):
        run_offline(run, folder=home)
    (trained / "offline.json").write_text(json.dumps({"seconds": 1.0, "rows": 6, "dropped": 0}))
    assert not list(home.glob("offline/.partial*"))


def test_the_same_run_gives_the_same_weights(start, home, tmp_path):
    run = OfflineRun(start=start, rows=ROWS, how=SFT)
    assert same(run_offline(run, folder=tmp_path), run_offline(run, folder=home))


OTHERS = {
    "terms": (NegativeLogLikelihood(), DPO()),
    "steps": 3,
    "batch_size": 5,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "pairs": "best_versus_worst",
    "priority": "advantage",
    "seed": 1,
}


def test_every_setting_is_part_of_the_name(start, other):
    assert OTHERS.keys() == {field.name for field in fields(OfflineTraining)}
    run = OfflineRun(start=start, rows=ROWS, how=SFT)
    runs = [replace(run, how=replace(SFT, **{name: value})) for name, value in OTHERS.items()]
    runs += [run, replace(run, rows=ROWS[:5]), replace(run, start=other)]
    runs += [replace(run, how=replace(SFT, terms=(DPO(beta=beta),))) for beta in (0.1, 0.2)]
    assert len({one.key for one in runs}) == len(runs)
    assert replace(run, reference=other).key == run.key  # nothing asks it
    held = replace(run, how=replace(SFT, terms=(DPO(),)), rows=PAIRS)
    assert replace(held, reference=start).key == held.key != replace(held, reference=other).key


def test_a_policy_is_its_weights_wherever_they_lie(start, other, tmp_path):
    assert weights_key(start) != weights_key(other)
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in start.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert weights_key(copied) == weights_key(start)
    side = json.loads((copied / "trueup.json").read_text())
    side["text_format"]["append_eos"] = False
    (copied / "trueup.json").write_text(json.dumps(side))
    assert weights_key(copied) != weights_key(start)


def margin(policy: Path) -> float:
    found = likelihoods(policy, PAIRS).logprob.reshape(-1, 2)
    return float((found[:, 0] - found[:, 1]).mean())


def test_preferences_move_the_margin_and_alpha_1_is_dpo(start, home):
    def train(term):
        return run_offline(OfflineRun(start=start, rows=PAIRS, how=replace(SFT, terms=(term,), steps=4)), folder=home)

    plain = train(DPO(beta=0.5))
    assert margin(plain) > margin(start) + 0.01
    assert same(plain, train(HDPO(beta=0.5, alpha=1.0)))
    assert not same(plain, train(HDPO(beta=0.5, alpha=0.5)))


def test_the_reference_and_the_round_before_are_those_that_are_named(start, other, home):
    how = replace(SFT, terms=(INPO(),))
    run = OfflineRun(start=start, rows=PAIRS, how=how)
    found = [run, replace(run, reference=other), replace(run, previous=other)]
    trained = [weights(run_offline(one, folder=home)) for one in found]
    assert all(not torch.equal(trained[a], trained[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_rewards_stand_in_the_responses(start, home):
    how = replace(SFT, terms=(MODPO(weight=0.5),), steps=3)
    with pytest.raises(DataError, match="made:1: a response states no reward"):
        run_offline(OfflineRun(start=start, rows=PAIRS[1:], how=how), folder=home)

    def rewarded(gap: float) -> Path:
        rows = [replace(one, responses=tuple(replace(r, features={"reward": gap * k})
                                             for k, r in enumerate(one.responses))) for one in PAIRS]  # fmt: skip
        return run_offline(OfflineRun(start=start, rows=tuple(rows), how=how), folder=home)

    assert not same(rewarded(0.0), rewarded(3.0))


def valued(*advantages: float) -> tuple[Row, ...]:
    return tuple(
        row(f"2{n}+2{n}=", Response(text=f"{n}", features={"advantage": value}), number=n)
        for n, value in enumerate(advantages)
    )


def test_an_advantage_of_nothing_teaches_nothing(start, home):
    how = replace(SFT, terms=(ALolRefFree(),))
    assert same(run_offline(OfflineRun(start=start, rows=valued(0.0, 0.0), how=how), folder=home), start)
    assert not same(run_offline(OfflineRun(start=start, rows=valued(0.0, 1.0), how=how), folder=home), start)


def test_rows_of_no_priority_are_never_drawn(start, home):
    """Only one row is; a step of four of it is a step of it alone."""
    how = replace(SFT, priority="advantage", steps=3)
    drawn = run_offline(OfflineRun(start=start, rows=valued(0.0, 2.0, -1.0), how=how), folder=home)
    alone = replace(how, priority=None, batch_size=1)
    single = run_offline(OfflineRun(start=start, rows=valued(0.0, 2.0, -1.0)[1:2], how=alone), folder=home)
    assert torch.allclose(weights(drawn), weights(single), atol=1e-6)
    assert not same(drawn, start)


def test_what_cannot_be_learned_is_counted_or_said(start, home):
    alike = row("10+10=", Response(text="20", label=True), Response(text="20", label=False), number=9)
    how = replace(SFT, terms=(DPO(),))
    found = cost_of(run_offline(OfflineRun(start=start, rows=(*PAIRS, alike), how=how), folder=home))
    assert (found.rows, found.dropped) == (6, 1)
    with pytest.raises(DataError, match="none of 1 rows is left"):
        run_offline(OfflineRun(start=start, rows=(alike,), how=how), folder=home)
    with pytest.raises(RecipeError, match="at least 1"):
        run_offline(OfflineRun(start=start, rows=ROWS, how=replace(SFT, steps=0)), folder=home)


def test_rows_are_left_as_they_were_after_a_training_that_failed(start, home, monkeypatch):
    before = sorted(path.name for path in (home / "offline").iterdir())
    monkeypatch.setattr(offline_runs, "_train", no_training)
    with pytest.raises(AssertionError, match="this trains"):
        run_offline(OfflineRun(start=start, rows=ROWS, how=replace(SFT, seed=77)), folder=home)
    assert sorted(path.name for path in (home / "offline").iterdir()) == before
    assert np.isfinite(margin(start))
