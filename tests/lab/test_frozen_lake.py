"""The lake as a table and as text, and policies that walk on it."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trueup.errors import DataError, RecipeError
from trueup.lab.arithmetic.characters import character_tokenizer, write_character_model
from trueup.lab.frozen_lake import (
    ALPHABET,
    CELLS,
    MOVES,
    Lake,
    expert_walks,
    random_walks,
    walk_text,
    walk_with,
)
from trueup.lab.scale_models import Shape
from trueup.models.policy_checkpoints import PolicyCheckpoint, new_policy

LEFT, DOWN, RIGHT, UP = range(4)


def test_the_table_is_the_lake_of_gymnasium():
    """By hand from its documentation: default slipping is a third to either side; edges hold; ends stay."""
    lake = Lake(slip=2 / 3)
    assert lake.transition.sum(axis=2) == pytest.approx(np.ones((16, 4)))
    third = pytest.approx(1 / 3)
    assert [lake.transition[0, LEFT, cell] for cell in (0, 4)] == [pytest.approx(2 / 3), third]
    assert [lake.transition[14, RIGHT, cell] for cell in (10, 14, 15)] == [third] * 3
    assert (lake.transition[5, :, 5] == 1).all()
    assert sorted(set(range(16)) - set(lake.safe.tolist())) == [5, 7, 11, 12, 15]
    assert Lake(slip=0.0).transition[0, RIGHT, 1] == 1


def test_value_iteration_finds_the_best_of_all_policies():
    """Policy iteration over every choice in the cells that matter would be long; each single change is tried."""
    lake = Lake(slip=0.2, limit=30)
    best = worth(lake, lake.optimal)
    for cell, move in product(lake.safe, range(4)):
        other = lake.optimal.copy()
        other[cell] = np.eye(4)[move]
        assert (worth(lake, other) <= best + 1e-9).all()
        if not lake.optimal[cell, move]:
            assert worth(lake, other)[cell] < best[cell] - 1e-9


def worth(lake: Lake, policy: np.ndarray) -> np.ndarray:
    """Worth of every cell by solving linear equations."""
    step = np.einsum("sm,smt->st", policy, lake.transition)
    step[lake.ends] = 0
    pays = np.zeros(16)
    pays[lake.goal] = 1
    return np.linalg.solve(np.eye(16) - lake.discount * step, pays)


def test_the_known_policy_of_the_slippery_lake():
    """As published many times: left, up, up, up / left, -, left or right, - / up, down, left, - / -, right, down, -."""
    found = Lake(slip=2 / 3, discount=0.99).optimal
    known = {0: [LEFT], 1: [UP], 2: [UP], 3: [UP], 4: [LEFT], 6: [LEFT, RIGHT], 8: [UP], 9: [DOWN], 10: [LEFT],
             13: [RIGHT], 14: [DOWN]}  # fmt: skip
    assert {cell: np.flatnonzero(found[cell]).tolist() for cell in known} == known


def test_success_without_slipping_is_sure_and_moves_of_equal_worth_share():
    lake = Lake(slip=0.0)
    assert lake.success(lake.optimal) == pytest.approx(1)
    assert lake.optimal[0].tolist() == [0, 0.5, 0.5, 0]
    assert Lake(slip=0.0, limit=5).success(lake.optimal) == 0
    walks = expert_walks(lake, 40, seed=0)
    assert all(row.responses[0].text.endswith("p") for row in walks)
    from_first = {row.responses[0].text for row in walks if row.prompt == "a"}
    assert from_first
    assert {len(text) for text in from_first} == {12}


def test_success_is_the_share_of_walks_that_arrive():
    lake, generator = Lake(slip=0.2), np.random.default_rng(0)
    ends = [lake.walk(lake.optimal, 0, generator=generator)[-1][1] for _ in range(1500)]
    assert np.mean(np.asarray(ends) == lake.goal) == pytest.approx(lake.success(lake.optimal), abs=0.04)


def test_walks_as_text():
    assert walk_text([(DOWN, 4), (RIGHT, 8)]) == "ve>i"
    lake = Lake(slip=0.2, limit=8)
    rows = random_walks(lake, 200, seed=1)
    assert rows == random_walks(lake, 200, seed=1)
    assert {row.prompt for row in rows} == {CELLS[cell] for cell in lake.safe}
    moves = "".join(row.responses[0].text[::2] for row in rows)
    assert {move: moves.count(move) / len(moves) for move in MOVES} == pytest.approx(
        dict.fromkeys(MOVES, 0.25), abs=0.05
    )
    for row in rows:
        text = row.prompt + row.responses[0].text
        assert len(row.responses[0].text) <= 16
        for here, move, there in zip(text[::2], text[1::2], text[2::2], strict=False):
            assert lake.transition[CELLS.index(here), MOVES.index(move), CELLS.index(there)] > 0


def test_expert_walks_are_preferred_to_walks_at_random_and_are_the_same_without():
    lake = Lake(slip=0.2)
    alone, preferred = expert_walks(lake, 12, seed=3), expert_walks(lake, 12, seed=3, against_random=True)
    assert [row.responses[0].text for row in alone] == [row.responses[0].text for row in preferred]
    assert all([one.label for one in row.responses] == [True, False] for row in preferred)
    assert all(one.label is None for row in alone for one in row.responses)


class TableCore:
    """Speaks as a causal model does, and moves as a table says, whatever stands before."""

    def __init__(self, policy: np.ndarray, tokenizer) -> None:
        self.policy = policy
        self.cells, self.moves = (tokenizer.convert_tokens_to_ids(list(names)) for names in (CELLS, MOVES))
        self.size = len(tokenizer)

    def __call__(self, ids, *, past_key_values=None, use_cache=False):
        logits = torch.full((*ids.shape, self.size), -50.0)
        for row, token in enumerate(ids[:, -1].tolist()):
            logits[row, -1, self.moves] = torch.from_numpy(self.policy[self.cells.index(token)]).log().float()
        return SimpleNamespace(logits=logits, past_key_values=None)


def asked(policy: np.ndarray) -> SimpleNamespace:
    tokenizer = character_tokenizer(ALPHABET)
    return SimpleNamespace(model=SimpleNamespace(core=TableCore(policy, tokenizer)), tokenizer=tokenizer)


def test_the_optimal_policy_is_at_no_distance_and_arrives_as_often_as_it_should():
    lake = Lake(slip=0.2)
    found = walk_with(asked(lake.optimal), lake, walks=1500, seed=0)
    assert found.distance == pytest.approx(0, abs=1e-9)
    assert found.met == pytest.approx(0, abs=1e-9)
    assert found.success == pytest.approx(lake.success(lake.optimal), abs=0.04)


def test_moving_at_random_is_at_the_distance_worked_by_hand():
    """One sure move against quarters: 9/16 + 3/16; no cell of this lake has two best moves."""
    lake = Lake(slip=0.2)
    assert (lake.optimal[lake.safe].max(axis=1) == 1).all()
    found = walk_with(asked(lake.uniform), lake, walks=800, seed=0)
    assert found.distance == pytest.approx(0.75)
    assert found.met == pytest.approx(0.75)
    assert found.success == pytest.approx(lake.success(lake.uniform), abs=0.02)
    assert found.moves == pytest.approx(np.full((11, 4), 0.25))


def test_a_model_walks_with_and_without_its_memory_alike(tmp_path):
    """A language model's cached steps are those of reading the walk anew."""
    write_character_model(tmp_path, ALPHABET, shape=Shape(width=16, layers=2, heads=2, positions=64))
    torch.manual_seed(0)
    tokenizer = character_tokenizer(ALPHABET)
    model = new_policy(tmp_path, tokenizer=tokenizer, from_scratch=True).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    known = SimpleNamespace(model=SimpleNamespace(core=Forgetful(model.core)), tokenizer=tokenizer)
    lake = Lake(slip=0.2, limit=6)
    ours = walk_with(PolicyCheckpoint(model, tokenizer, None), lake, walks=40, seed=0)
    anew = walk_with(known, lake, walks=40, seed=0)
    assert ours.met == pytest.approx(anew.met, abs=1e-5)
    assert ours.success == anew.success
    assert ours.distance == pytest.approx(anew.distance)


class Forgetful:
    """Keeps the tokens in the place of a cache, and reads them all again."""

    def __init__(self, core) -> None:
        self.core = core

    def __call__(self, ids, *, past_key_values=None, use_cache=False):
        whole = ids if past_key_values is None else torch.cat([past_key_values, ids], dim=1)
        return SimpleNamespace(logits=self.core(whole).logits, past_key_values=whole)


def test_what_is_refused():
    with pytest.raises(RecipeError, match="slip must lie between 0 and 1"):
        Lake(slip=1.5)
    tokenizer = character_tokenizer("abc")
    known = SimpleNamespace(model=SimpleNamespace(core=None), tokenizer=tokenizer)
    with pytest.raises(DataError, match="lacks cells or moves"):
        walk_with(known, Lake(), walks=1, seed=0)
