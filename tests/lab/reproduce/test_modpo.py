"""MODPO's claims on fronts that were made up, what its data are."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.data.rows import Message
from trueup.lab.offline_draws import likelihoods
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, run_offline
from trueup.lab.reproduce import modpo_language as language
from trueup.lab.reproduce import modpo_tables as tables
from trueup.lab.reproduce.modpo import FIGURE, evidence_of
from trueup.lab.reproduce.modpo_language import LanguageFront, brevity, coverage, preferences
from trueup.lab.reproduce.modpo_tables import Front, TableRuns
from trueup.lab.world import World
from trueup.objectives.preference.dpo import DPO

WORLDS, WEIGHTS = 4, (0.1, 0.5, 0.9)
JITTER = np.linspace(-0.001, 0.001, WORLDS)


def front(*, volume, shortfall):
    return Front(
        points=np.ones((WORLDS, 5, 2)) * np.linspace(0, 1, 5)[:, None],
        volume=volume + JITTER,
        shortfall=shortfall + JITTER[:, None] * np.ones(3),
    )


def small(*, ours, others, difference=1e-6, swapped=None):
    arms = {arm: dict(zip(("volume", "shortfall"), others, strict=True)) for arm in tables.ARMS}
    for arm in (tables.MODPO_ARM, tables.LEARNED):
        arms[arm] = dict(zip(("volume", "shortfall"), ours, strict=True))
    fronts = {arm: {nats: front(**values) for nats in tables.NATS} for arm, values in arms.items()}
    few = fronts | {tables.SWAPPED: {nats: front(volume=1, shortfall=swapped or 0.0) for nats in tables.NATS}}
    return TableRuns(weights=WEIGHTS, difference=np.full(WORLDS, difference),
                     fronts={tables.MANY: fronts, tables.FEW: few})  # fmt: skip


def path(*points):
    return np.array([(0.0, 0.0, 0.0), *points])


def spoken(*, ours, others, seed=0):
    """Weights 0, 0.5 and 1, at a distance of 2."""
    ends = {0.0: path((2.0, 0.0, 1.0)), 1.0: path((2.0, 1.0, 0.0))}
    middle = {arm: ours if arm == language.MODPO_ARM else others for arm in language.ARMS}
    wobble = 0.001 * seed
    return LanguageFront(
        paths={arm: ends | {0.5: path((2.0, each + wobble, each))} for arm, each in middle.items()},
        trainings=dict.fromkeys(language.ARMS, 3),
        seconds=dict.fromkeys(language.ARMS, 1.5),
        agreement=-0.5,
    )


def page(tables_found, *, ours, others, scale):
    worlds = [spoken(ours=ours, others=others, seed=seed) for seed in range(3)]
    return evidence_of(tables_found, worlds, scale=scale, command="c")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(small(ours=(1.0, 0.01), others=(0.9, 0.1)), ours=0.9, others=0.6, scale=tiny_scale)
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 10
    assert list(found.figures) == [FIGURE]
    assert "0.30 [0.30, 0.30]" in found.finding


def test_the_opposite_contradicts(tiny_scale):
    runs = small(ours=(0.9, 0.1), others=(1.0, 0.01), difference=0.2, swapped=0.3)
    runs.fronts[tables.MANY][tables.LEARNED] = {nats: front(volume=1.0, shortfall=0.0) for nats in tables.NATS}
    found = page(runs, ours=0.6, others=0.9, scale=tiny_scale)
    assert [claim.verdict for claim in found.claims] == ["contradicted"] * 10


def test_equal_methods_decide_nothing(tiny_scale):
    found = page(small(ours=(1.0, 0.01), others=(1.0, 0.01), swapped=0.01), ours=0.7, others=0.7, scale=tiny_scale)
    assert [claim.verdict for claim in found.claims][2:] == ["not at this scale"] * 8


def test_area_and_weighted_reward_by_hand():
    """Corner (0, 0), one point at (0.75, 0.75); half of the distance, half of the gain."""
    world = spoken(ours=0.75, others=0.5)
    assert world.nats == pytest.approx(4.0)
    assert world.volume(language.MODPO_ARM) == pytest.approx(0.75**2)
    assert world.weighted(language.SOUP) == pytest.approx(0.5)
    shorter = {arm: dict(paths) for arm, paths in world.paths.items()}
    shorter[language.SOUP][0.5] = path((1.0, 0.5, 0.5))
    near = replace(world, paths=shorter)
    assert near.nats == pytest.approx(1.0)
    assert near.volume(language.MODPO_ARM) == pytest.approx((0.75 / 2) ** 2)


def test_comparisons_are_labelled_by_each_reward(world_zero, monkeypatch):
    monkeypatch.setattr(language, "SHARPNESS", 1e9)
    covering, brief, agreement = preferences(world_zero, count=8, seed=0)
    assert len(covering) == len(brief) == 8
    assert not {row.id for row in covering} & {row.id for row in brief}
    assert -1 <= agreement <= 1
    for row in covering:
        there = coverage([row.prompt] * 2, [one.text for one in row.responses])
        if there[0] != there[1]:
            assert [one.label for one in row.responses] == [share == max(there) for share in there]
    for row in brief:
        words = [-one for one in brevity([], [one.text for one in row.responses])]
        if words[0] != words[1]:
            assert [one.label for one in row.responses] == [count == min(words) for count in words]


def test_coverage_counts_what_was_asked_for():
    world = World(0)
    prompt = world.prompts(1, families=["list"])[0]
    right = world.answer([prompt], responses=1, writers=["concise_expert"])[0].responses[0].text
    found = coverage([prompt.text, (Message("user", prompt.text),), prompt.text], [right, right, "I do not know."])
    assert found[0] == found[1] > 0.5
    assert found[2] == 0.0


def test_labels_are_drawn(world_zero, monkeypatch):
    """Without any sharpness labels are coins."""
    monkeypatch.setattr(language, "SHARPNESS", 0.0)
    first = [preferences(world_zero, count=10, seed=seed)[0] for seed in range(12)]
    share = np.mean([row.responses[0].label for rows in first for row in rows])
    assert 0.3 < share < 0.7


def test_margins_are_implied_rewards_times_their_weight(world_zero, tmp_path):
    covering, brief, _ = preferences(world_zero, count=4, seed=0)
    how = OfflineTraining(terms=(DPO(),), steps=2, learning_rate=1e-2, warmup_steps=0)
    moved_policy = run_offline(OfflineRun(start=world_zero.policy, rows=brief, how=how), folder=tmp_path)
    found = language._with_margins(world_zero, covering, moved_policy, weights=(0.25, 1.0))
    held, moved = (likelihoods(place, covering).logprob for place in (world_zero.policy, moved_policy))
    told = [one.features["reward"] for row in found[0.25] for one in row.responses]
    assert told == pytest.approx((0.75 * language.BETA * (moved - held)).tolist())
    assert max(map(abs, told)) > 0
    assert {one.features["reward"] for row in found[1.0] for one in row.responses} == {0.0}
    assert [row.responses[0].label for row in found[0.25]] == [row.responses[0].label for row in covering]


def test_a_mixture_draws_coverage_s_comparisons_with_its_weight(world_zero):
    covering, brief, _ = preferences(world_zero, count=4, seed=0)
    mixed = language._mixed(covering, brief[:2], 0.3)
    weight = [sum(one.features["weight"] for one in row.responses) for row in mixed]
    assert sum(weight[:4]) / sum(weight) == pytest.approx(0.3)
    assert len(set(weight[:4])) == len(set(weight[4:])) == 1
