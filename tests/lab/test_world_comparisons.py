import hashlib
import json
import time
from math import exp

import numpy as np
import pytest

from trueup.data.rows import Message, Row
from trueup.errors import DataError, RecipeError
from trueup.lab.world import CORE_FAMILIES, FRESH_FAMILIES, FRESH_WRITERS, TRAINING_WRITERS, World
from trueup.lab.world.labels import preference_probability

PINNED = "93654cfe56aaa37bad8792469533fd48a59818cda5313978098288041b9e41cd"


def plain(rows: list[Row]) -> list[object]:
    return [
        [row.id, row.subset, row.prompt[0].content]
        + [[a.text, a.source, a.label, round(a.score, 6)] for a in row.responses]
        for row in rows
    ]


def texts(rows: list[Row]) -> set[str]:
    return {row.prompt[0].content for row in rows}


def sources(rows: list[Row]) -> set[str | None]:
    return {answer.source for row in rows for answer in row.responses}


def test_generated_data_are_the_same_on_every_machine():
    world = World(42)
    data = [plain(world.rows(120)), plain(world.rows(60, fresh=True)), plain(world.preferences(120, flip=0.25))]
    digest = hashlib.sha256(json.dumps(data, ensure_ascii=True).encode()).hexdigest()
    assert digest == PINNED


def test_rows_hold_prompt_answers_gold_and_its_breakdown():
    world = World(0)
    rows = world.rows(50, responses=4)
    assert len({row.id for row in rows}) == len(texts(rows)) == 50
    for row in rows:
        assert isinstance(row.prompt[0], Message)
        assert row.subset in CORE_FAMILIES
        assert len({answer.source for answer in row.responses}) == 4
        assert len({answer.text for answer in row.responses}) == 4
        for answer in row.responses:
            assert answer.label is None
            assert answer.score == world.gold(row.prompt, answer.text) == world.gold(row.prompt[0].content, answer.text)
            assert answer.features == world.gold_features(row.prompt, answer.text)


def test_longer_draws_begin_like_shorter_ones_and_seeds_matter():
    assert plain(World(1).rows(30)) == plain(World(1).rows(60))[:30]
    assert plain(World(1).rows(30)) != plain(World(2).rows(30))
    assert plain(World(1).rows(30)) != plain(World(1).rows(30, seed=1))


def test_fresh_rows_have_fresh_writers_and_families():
    rows = World(0).rows(80, fresh=True)
    assert {row.subset for row in rows} == set(FRESH_FAMILIES)
    assert sources(rows) == set(FRESH_WRITERS)
    mixed = World(0).rows(40, fresh=True, families=("list",), writers=("careless",), responses=3)
    assert {row.subset for row in mixed} == {"list"}
    assert sources(mixed) == {"careless"}


def test_preferences_without_noise_follow_gold():
    for row in World(0).preferences(200, temperature=0.0):
        one, two = row.responses
        assert one.label is not two.label
        assert one.score == two.score or one.label == (one.score > two.score)


@pytest.mark.parametrize(("gap", "temperature"), [(0.7, 0.5), (-0.7, 0.5), (2.0, 3.0), (-900.0, 1.0), (0.0, 0.0)])
def test_the_preference_probability_is_a_sigmoid(gap: float, temperature: float):
    expected = 0.5 if temperature == 0 else exp(gap / temperature) / (1 + exp(gap / temperature))
    assert preference_probability(gap, temperature) == pytest.approx(expected)


def test_small_temperatures_tend_to_no_noise():
    assert preference_probability(0.3, 1e-9) == preference_probability(0.3, 0.0) == 1.0
    assert preference_probability(-0.3, 1e-9) == preference_probability(-0.3, 0.0) == 0.0


def test_noise_and_flips_occur_as_often_as_stated():
    world, count = World(0), 3000
    clean = world.preferences(count, temperature=0.0)
    gaps = np.asarray([row.responses[0].score - row.responses[1].score for row in clean])
    for temperature, flip in ((0.8, 0.0), (0.0, 0.25), (0.8, 0.25)):
        noisy = world.preferences(count, temperature=temperature, flip=flip)
        assert [a.text for row in noisy for a in row.responses] == [a.text for row in clean for a in row.responses]
        agree = np.mean([(row.responses[0].label is True) == (gap > 0) for row, gap in zip(noisy, gaps, strict=True)])
        right = np.mean(1 / (1 + np.exp(-np.abs(gaps) / temperature))) if temperature else 1.0
        assert agree == pytest.approx(right * (1 - flip) + (1 - right) * flip, abs=0.03)


def test_rows_without_two_scored_responses_cannot_be_labelled():
    with pytest.raises(DataError, match="3 responses, 3 of them scored; expected two scored responses"):
        World(0).label(World(0).rows(1, responses=3), temperature=0.0)


def test_chosen_is_as_often_first_as_second():
    first = np.mean([row.responses[0].label is True for row in World(3).preferences(2000)])
    assert first == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("shift", ["families", "prompts"])
def test_four_shifts_share_only_what_they_should(shift: str):
    splits = World(0).four_shifts(100, held_out=60, shift=shift)
    assert list(splits) == ["train", "in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint"]
    known, held_out = texts(splits["train"]), texts(splits["prompt_disjoint"])
    assert texts(splits["in_domain"]) == texts(splits["response_disjoint"]) == known
    assert texts(splits["mutual_disjoint"]) == held_out
    assert len(known) == 100
    assert len(held_out) == 60
    assert not known & held_out
    for name in ("train", "in_domain", "prompt_disjoint"):
        assert sources(splits[name]) <= set(TRAINING_WRITERS)
    for name in ("response_disjoint", "mutual_disjoint"):
        assert sources(splits[name]) <= set(FRESH_WRITERS)
    families = {row.subset for row in splits["prompt_disjoint"]}
    assert families == set(FRESH_FAMILIES if shift == "families" else CORE_FAMILIES)
    for seen, unseen in zip(splits["train"], splits["in_domain"], strict=True):
        assert seen.prompt == unseen.prompt
        assert {a.source for a in seen.responses}.isdisjoint({a.source for a in unseen.responses})
        assert sorted(a.label for a in seen.responses) == sorted(a.label for a in unseen.responses) == [False, True]


def test_label_noise_of_four_shifts_touches_training_pairs_alone():
    clean, noisy = (World(0).four_shifts(200, held_out=20, flip=flip) for flip in (0.0, 0.25))
    changed = np.mean([a != b for a, b in zip(clean["train"], noisy["train"], strict=True)])
    assert changed == pytest.approx(0.25, abs=0.1)
    assert all(clean[name] == noisy[name] for name in clean if name != "train")


def test_gold_reward_is_a_reward_function_on_row_prompts():
    world = World(0)
    rows = world.rows(20, responses=1)
    rewards = world.gold_reward([row.prompt for row in rows], [row.responses[0].text for row in rows])
    assert rewards == [row.responses[0].score for row in rows]
    with pytest.raises(DataError, match="2 prompts and 1 responses"):
        world.gold_reward([rows[0].prompt] * 2, ["a fox"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses": 0}, "responses must be at least 1, got 0"),
        ({"writers": ()}, "writers must be some of"),
        ({"writers": ("nobody",)}, "got nobody"),
        ({"families": ("nothing",)}, "got nothing"),
    ],
)
def test_senseless_settings_of_rows_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(RecipeError, match=message):
        World(0).rows(3, **settings)


@pytest.mark.parametrize("noise", [{"temperature": -1.0}, {"temperature": float("nan")}, {"flip": 1.5}])
def test_senseless_noise_is_refused(noise: dict[str, float]):
    with pytest.raises(RecipeError, match="must"):
        World(0).preferences(3, **noise)


def test_negative_seeds_and_unknown_shifts_are_refused():
    with pytest.raises(RecipeError, match="seed must be zero or more"):
        World(-1)
    with pytest.raises(RecipeError, match="seed must be zero or more"):
        World(0).rows(3, seed=-2)
    with pytest.raises(RecipeError, match="shift must be"):
        World(0).four_shifts(3, held_out=3, shift="nothing")


def test_a_thousand_rows_take_less_than_two_seconds():
    start = time.perf_counter()
    World(77).rows(1000)
    assert time.perf_counter() - start < 2.0
