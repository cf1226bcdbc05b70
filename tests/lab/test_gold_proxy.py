"""Gold against proxy: what is sampled and compared, what proxies learn from, and that all of it is made once."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.data.rows import Origin, Response, Row
from trueup.errors import RecipeError
from trueup.lab import gold_proxy, proxy_runs, shift_runs
from trueup.lab.gold_proxy import (
    ProxyPlan,
    SetupPlan,
    accuracy,
    labelled,
    plan_record,
    set_up,
    train_proxy,
)
from trueup.lab.proxy_runs import ProxyRun, run_proxy
from trueup.lab.reproduce.bsr import SHIFTS
from trueup.lab.shift_runs import ShiftRun, run_shifts
from trueup.lab.world import World
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.rewards.base import Scores
from trueup.rewards.model import ModelReward

from .conftest import FIT, POLICY, SETUP

PLAN = ProxyPlan(pairs=20, fit=FIT)
UNUSED = 0.137
"""A strength of sum-to-zero that no other test of the laboratory trains with; its folder is shared."""


def no_training(*args, **options):
    raise AssertionError("this trains")


# The world's pool and comparisons


def test_the_pool_is_the_policy_s_with_gold_s_scores(world_zero):
    world = World(0)
    assert world_zero.pool.shape == (6, 24)
    assert world_zero.policy.name == POLICY.key
    for row, (prompt, texts) in enumerate(zip(world_zero.pool.prompts, world_zero.pool.responses, strict=True)):
        assert len(set(texts)) > 1
        for column in (0, 11, 23):
            assert world_zero.gold[row, column] == pytest.approx(world.gold(prompt, texts[column]), abs=1e-6)


def test_gold_tells_all_comparisons_apart(world_zero):
    rows = [*world_zero.comparisons, *world_zero.held_out]
    assert len(world_zero.comparisons) <= 45
    assert 5 < len(world_zero.held_out) <= 15
    for row in rows:
        first, second = row.responses
        assert first.score != second.score
        assert first.score == pytest.approx(World(0).gold(row.prompt, first.text), abs=1e-6)


def test_no_prompt_is_on_two_sides(world_zero):
    learned = {row.prompt for row in world_zero.comparisons}
    tested = {row.prompt for row in world_zero.held_out}
    pool = set(world_zero.pool.prompts)
    assert len(learned) == len(world_zero.comparisons)
    assert not learned & tested
    assert not (learned | tested) & pool


def test_a_world_is_read_and_not_drawn_again(world_zero, lab, monkeypatch):
    monkeypatch.setattr(gold_proxy, "draw_pool", no_training)
    monkeypatch.setattr("trueup.lab.policies.fit_policy", no_training)
    again = set_up(world_zero.plan, folder=lab)
    assert again.pool.responses == world_zero.pool.responses
    assert np.array_equal(again.gold, world_zero.gold)
    assert again.comparisons == world_zero.comparisons
    assert again.held_out == world_zero.held_out


def test_a_larger_pool_extends_a_smaller(world_zero, lab):
    more = set_up(replace(world_zero.plan, samples=26), folder=lab)
    assert more.pool.shape == (6, 26)
    assert all(new[:24] == old for new, old in zip(more.pool.responses, world_zero.pool.responses, strict=True))
    assert np.array_equal(more.gold[:, :24], world_zero.gold)


@pytest.mark.parametrize("held_out", [0, 60, 61])
def test_both_sides_need_comparisons(held_out):
    with pytest.raises(RecipeError, match=f"between 0 and comparisons, got {held_out}"):
        replace(SETUP, held_out=held_out)


# Labels


def pair(number: int, first: float, second: float) -> Row:
    answers = (Response(text="a", score=first), Response(text="b", score=second))
    return Row(prompt=f"{number}?", responses=answers, id=str(number), origin=Origin("comparisons", number + 1))


def test_labels_are_gold_s_choice():
    first, second = labelled([pair(0, 1.0, -2.0), pair(1, -0.5, 0.0)])
    assert [one.label for one in first.responses] == [True, False]
    assert [one.label for one in second.responses] == [False, True]
    assert all(one.score is None for one in first.responses)  # a proxy sees gold's choice, not its score
    assert [one.text for one in first.responses] == ["a", "b"]


def test_labels_of_the_world_are_gold_s(world_zero):
    for row, scored in zip(labelled(world_zero.comparisons), world_zero.comparisons, strict=True):
        chosen = max(range(2), key=lambda k: scored.responses[k].score)
        assert [one.label for one in row.responses] == [k == chosen for k in range(2)]


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.25, 0.21, 0.29), (1.0, 1, 1)])
def test_so_many_labels_are_turned_round(flip, low, high):
    """Of 2000; 0.04 is four standard errors."""
    rows = [pair(n, float(n % 2), 0.5) for n in range(2000)]
    right, noisy = labelled(rows), labelled(rows, flip=flip, seed=3)
    turned = [a.responses[0].label != b.responses[0].label for a, b in zip(right, noisy, strict=True)]
    assert low <= np.mean(turned) <= high
    assert all(row.responses[0].label is not row.responses[1].label for row in noisy)
    assert labelled(rows, flip=flip, seed=3) == noisy
    if 0 < flip < 1:
        assert labelled(rows, flip=flip, seed=4) != noisy


# Proxies


def watch(monkeypatch) -> list[list[Row]]:
    """What proxies learn from, without any learning."""
    seen = []
    monkeypatch.setattr(gold_proxy, "fit_reward", lambda rows, base, **options: seen.append((rows, base, options)))
    return seen


def test_a_proxy_learns_from_comparisons_alone(world_zero, monkeypatch):
    seen = watch(monkeypatch)
    train_proxy(world_zero, PLAN)
    train_proxy(world_zero, replace(PLAN, pairs=10), trunk=world_zero.policy / "elsewhere")
    (rows, base, _), (fewer, trunk, _) = seen
    assert len(rows) == 20
    assert {row.prompt for row in rows} < {row.prompt for row in world_zero.comparisons}
    assert fewer == rows[:10]
    assert (base, trunk) == (world_zero.policy, world_zero.policy / "elsewhere")
    assert {one.label for row in rows for one in row.responses} == {True, False}


def test_members_share_data_and_noise_and_differ_in_their_own_seed(world_zero, monkeypatch):
    seen = watch(monkeypatch)
    noisy = replace(PLAN, flip=0.25, seed=5)
    train_proxy(world_zero, noisy)
    train_proxy(world_zero, replace(noisy, seed=6, data_seed=5))
    train_proxy(world_zero, replace(noisy, seed=6))
    assert seen[0][0] == seen[1][0]
    assert seen[2][0] != seen[1][0]
    assert [options["seed"] for _, _, options in seen] == [5, 6, 6]


def test_more_comparisons_than_there_are_is_refused(world_zero):
    there = len(world_zero.comparisons)
    with pytest.raises(RecipeError, match=f"pairs must be at most {there}, .* got {there + 1}"):
        train_proxy(world_zero, replace(PLAN, pairs=there + 1))


@pytest.fixture(scope="module")
def proxy(world_zero, lab):
    return run_proxy(world_zero, ProxyRun(plan=PLAN), folder=lab)


def test_a_proxy_s_scores_are_its_model_s(world_zero, proxy):
    """And a function of the seed: trained here once more, it says the same of every sample."""
    again = train_proxy(world_zero, PLAN)
    reward = ModelReward(checkpoint=again, name="proxy", keep_hidden=True)
    asked, texts = world_zero.pool.prompts[:2], [list(own) for own in world_zero.pool.responses[:2]]
    found = reward.score(asked, texts)
    assert proxy.score[:2].ravel() == pytest.approx(found.reward, abs=1e-5)
    assert proxy.hidden_norm[:2].ravel() == pytest.approx(np.linalg.norm(found.hidden, axis=1), rel=1e-4)
    assert proxy.accuracy == accuracy(reward, world_zero.held_out)
    assert proxy.parameters == sum(p.numel() for p in again.model.parameters())
    assert proxy.score.shape == proxy.hidden_norm.shape == (6, 24)
    assert proxy.training_norm[0] > 0
    assert proxy.score.std() > 0


def test_another_seed_is_another_proxy(world_zero, lab, proxy):
    other = run_proxy(world_zero, ProxyRun(plan=replace(PLAN, seed=1)), folder=lab)
    assert not np.allclose(other.score, proxy.score)


def test_accuracy_is_the_share_ordered_as_gold_does():
    rows = [pair(0, 1.0, 0.0), pair(1, 0.0, 1.0), pair(2, 1.0, 0.0), pair(3, 0.0, 2.0)]
    said = np.array([2.0, 1.0, 2.0, 1.0, 3.0, 0.5, 0.0, 0.5])

    class Said:
        def score(self, prompts, responses):
            assert list(prompts) == [row.prompt for row in rows]
            return Scores(reward=said, prompt=np.repeat(np.arange(4), 2), length=np.ones(8))

    assert accuracy(Said(), rows) == 0.75


# Kept results


def test_a_proxy_is_trained_once(world_zero, lab, proxy, monkeypatch):
    monkeypatch.setattr(proxy_runs, "train_proxy", no_training)
    again = run_proxy(world_zero, ProxyRun(plan=PLAN), folder=lab)
    assert np.array_equal(again.score, proxy.score)
    assert again.hidden_norm == pytest.approx(proxy.hidden_norm, rel=1e-6)
    assert (again.training_norm, again.accuracy, again.parameters) == (
        proxy.training_norm, proxy.accuracy, proxy.parameters)  # fmt: skip
    monkeypatch.setattr(proxy_runs, "build_policy", lambda plan, folder: folder / plan.key)
    bsr = (BradleyTerry(), BatchSumToZero(coefficient=UNUSED))
    for other in (ProxyRun(plan=replace(PLAN, terms=bsr)), ProxyRun(plan=PLAN, trunk=replace(POLICY, seed=31))):
        with pytest.raises(AssertionError, match="this trains"):
            run_proxy(world_zero, other, folder=lab)


@pytest.mark.parametrize("damage", ["cut", "emptied", "other bytes", "another array"])
def test_a_damaged_result_is_made_again(damage, world_zero, lab, tmp_path, proxy, monkeypatch, caplog):
    run = ProxyRun(plan=PLAN)
    whole = (lab / "proxies" / f"{run.key(world_zero)}.npz").read_bytes()
    (tmp_path / "proxies").mkdir()
    place = tmp_path / "proxies" / f"{run.key(world_zero)}.npz"
    if damage == "another array":
        np.savez(place, other=np.zeros(3))
    else:
        held = {"cut": whole[: len(whole) // 2], "emptied": b"", "other bytes": b"PK\x03\x04" + bytes(50)}
        place.write_bytes(held[damage])
    monkeypatch.setattr(proxy_runs, "train_proxy", lambda setup, plan, trunk: None)
    monkeypatch.setattr(proxy_runs, "score_proxy", lambda setup, made: proxy)
    again = run_proxy(world_zero, run, folder=tmp_path)
    assert "damaged, and made again" in caplog.text
    assert np.array_equal(again.score, proxy.score)
    assert len(place.read_bytes()) == len(whole)


def test_everything_that_decides_the_scores_is_part_of_their_name(world_zero):
    run = ProxyRun(plan=PLAN)
    plans = [
        replace(PLAN, pairs=10),
        replace(PLAN, flip=0.1),
        replace(PLAN, terms=(BradleyTerry(), BatchSumToZero(coefficient=0.1))),
        replace(PLAN, terms=(BradleyTerry(), BatchSumToZero(coefficient=0.2))),
        replace(PLAN, fit=replace(FIT, epochs=2.0)),
        replace(PLAN, seed=1),
        replace(PLAN, data_seed=1),
    ]
    setups = [
        replace(world_zero, plan=replace(world_zero.plan, **changes))
        for changes in (
            {"prompts": 7},
            {"samples": 25},
            {"comparisons": 61},
            {"held_out": 16},
            {"policy": replace(POLICY, seed=9)},
        )
    ]
    keys = {ProxyRun(plan=plan).key(world_zero) for plan in plans} | {run.key(setup) for setup in setups}
    keys |= {run.key(world_zero), ProxyRun(plan=PLAN, trunk=POLICY).key(world_zero)}
    assert len(keys) == len(plans) + len(setups) + 2
    assert ProxyRun(plan=replace(PLAN)).key(world_zero) == run.key(world_zero)
    assert plan_record(plans[3])["terms"][1] == {**plan_record(plans[2])["terms"][1], "coefficient": 0.2}
    assert SetupPlan().key == replace(SetupPlan(), samples=9).key


# The four shifts


def test_the_four_shifts_are_measured_once(tiny_scale, lab, monkeypatch):
    plan = tiny_scale.plan(0).policy
    run = ShiftRun(policy=plan, train=20, held_out=12, fit=FIT)
    found = run_shifts(run, folder=lab)
    assert {"train", "in_domain", *SHIFTS} <= found.keys()
    assert all(0 <= measures["accuracy"] <= 1 for measures in found.values())
    assert all(-1 <= found[name]["tau"] <= 1 for name in SHIFTS)
    assert all(measures["reward_std"] > 0 and measures["norm_mean"] > 0 for measures in found.values())
    monkeypatch.setattr(shift_runs, "fit_reward", no_training)
    assert run_shifts(run, folder=lab) == found
    with pytest.raises(AssertionError, match="this trains"):
        run_shifts(replace(run, terms=(BradleyTerry(), BatchSumToZero(coefficient=UNUSED))), folder=lab)
