"""One round up to its pairs."""

import json
from collections import Counter

import numpy as np
import pytest

from small_inpo import ASKED, forget, small_recipe
from trueup.data.formats import read_rows
from trueup.data.pool_files import PoolFolder
from trueup.data.rows import Message
from trueup.errors import DataError
from trueup.recipes import inpo_pairs as module
from trueup.recipes.inpo_pairs import Round, draw, make_pairs, read_provenance
from trueup.train.pair_selection import best_worst

PROMPTS = ("question 1:", "question 2:", "question 3:")


@pytest.fixture(autouse=True)
def _alone():
    forget()


@pytest.fixture(scope="module")
def drawn(base, tmp_path_factory):
    """Samples of a round, drawn once for all tests: they are copied, never changed."""
    recipe = small_recipe(base, tmp_path_factory.mktemp("drawn"))
    this = round_of(recipe)
    return this, draw(recipe, this)


def round_of(recipe, number=1):
    folder = recipe.output / f"round-{number}"
    return Round(
        number=number,
        start=recipe.model,
        folder=folder,
        policy=folder / "model",
        ids=("a", "b", "c"),
        prompts=PROMPTS,
    )


def prepared(drawn, base, tmp_path, monkeypatch, **changes):
    """A recipe and its round, whose samples are drawn already."""
    recipe = small_recipe(base, tmp_path, **changes)
    monkeypatch.setattr(module, "draw", lambda recipe, this: drawn[1])
    return recipe, round_of(recipe)


def records(this):
    return [json.loads(line) for line in (this.folder / "pairs.jsonl").read_text().splitlines()]


def test_samples_are_drawn_once(drawn, monkeypatch):
    this, pool = drawn
    recipe = small_recipe(this.start, this.folder.parents[1])
    monkeypatch.setattr(module, "load_model_policy", None)
    again = draw(recipe, this)
    assert again.responses == pool.responses
    assert pool.shape == (3, 4)
    assert len({text for group in pool.responses for text in group}) > 6
    with pytest.raises(DataError, match="the pool was drawn with"):
        draw(small_recipe(this.start, this.folder.parents[1], temperature=0.5), this)


def test_pairs_read_back_as_they_were_drawn(drawn, base, tmp_path, monkeypatch):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch)
    make_pairs(recipe, this)
    rows = read_rows(this.folder / "pairs.jsonl", format="preference").rows
    assert len(rows) == len(records(this)) == read_provenance(this)["pairs"]
    for row in rows:
        name, _, numbers = row.id.partition("/")
        place = this.ids.index(name)
        group = drawn[1].responses[place]
        assert row.prompt == PROMPTS[place]
        assert [group[int(k) - 1] for k in numbers.split("-")] == [one.text for one in row.responses]
        assert [one.label for one in row.responses] == [True, False]


def test_pairs_are_made_once(drawn, base, tmp_path, monkeypatch):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch)
    make_pairs(recipe, this)
    (this.folder / "pairs.jsonl").unlink()
    before, asked = (this.folder / "pairs.json").read_text(), list(ASKED)
    make_pairs(recipe, this)
    assert asked == ASKED
    monkeypatch.setattr(module, "open_oracle", None)
    make_pairs(recipe, this)
    assert (this.folder / "pairs.json").read_text() == before


def test_chats_stay_chats(drawn, base, tmp_path, monkeypatch):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch)
    chat = (Message("system", "Be brief."), Message("user", "Hello"))
    pool = drawn[1]
    monkeypatch.setattr(module, "draw", lambda recipe, this: type(pool)(**vars(pool) | {"prompts": (chat,) * 3}))
    make_pairs(recipe, this)
    rows = read_rows(this.folder / "pairs.jsonl", format="preference").rows
    assert rows
    assert all(row.prompt == chat for row in rows)


def test_only_the_first_round_measures_the_oracle(drawn, base, tmp_path, monkeypatch):
    recipe, _ = prepared(drawn, base, tmp_path, monkeypatch)
    make_pairs(recipe, round_of(recipe, 2))
    assert not (recipe.output / "oracle.json").exists()
    make_pairs(recipe, round_of(recipe, 1))
    assert (recipe.output / "oracle.json").exists()


def test_a_reward_scores_each_response_once(base, tmp_path):
    """Whatever chooses: the best and worst, or games between them; a tournament ends in the same pairs."""
    found = {}
    for pairs in ("best_worst", "tournament"):
        forget()
        (tmp_path / pairs).mkdir()
        recipe = small_recipe(base, tmp_path / pairs, oracle="small_inpo:score", pairs=pairs)
        this = round_of(recipe)
        make_pairs(recipe, this)
        pool = PoolFolder(this.folder / "samples").read(rewards=("score",))
        assert max(Counter(ASKED).values()) == 1
        assert {(p, t) for p, t, _ in ASKED} == {
            (p, t) for p, group in zip(pool.prompts, pool.responses, strict=True) for t in group
        }
        expected = np.asarray([[len(set(text)) for text in group] for group in pool.responses], float)
        assert pool.score("score").tolist() == expected.tolist()
        found[pairs] = [(one["chosen"], one["rejected"]) for one in records(this)]
        told = json.loads((recipe.output / "oracle.json").read_text())
        assert told["mean"] == pytest.approx(0, abs=1e-12)
        assert told["asked_in_both_orders"] is False
        if pairs == "best_worst":
            chosen = best_worst(expected, pool.responses).pairs
            assert found[pairs] == [(pool.responses[p][i], pool.responses[p][j]) for p, i, j in chosen]
    spread = [[len(set(text)) for text in pair] for pair in found["tournament"]]
    assert spread == [[len(set(text)) for text in pair] for pair in found["best_worst"]]


def test_an_order_is_drawn_anew_in_each_round(drawn, base, tmp_path, monkeypatch):
    """And with the seed; the same round of the same seed is the same."""
    orders = {}
    for name, seed, number in (("one", 0, 1), ("again", 0, 1), ("other", 1, 1), ("next", 0, 2)):
        (tmp_path / name).mkdir()
        recipe, _ = prepared(
            drawn, base, tmp_path / name, monkeypatch, pairs="iid", seed=seed, oracle=f"{__name__}:even"
        )
        make_pairs(recipe, round_of(recipe, number))
        orders[name] = [one["id"] for one in records(round_of(recipe, number))]
    assert orders["one"] == orders["again"]
    assert len({tuple(order) for order in orders.values()}) == 3


def even(prompts, first, second):
    return [0.5] * len(first)


def test_a_round_without_pairs_is_a_clear_error(drawn, base, tmp_path, monkeypatch):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch, oracle=f"{__name__}:even")
    with pytest.raises(DataError, match=r"none of the 3 prompts of round 1 gives a pair: .*3 tie.*ask another oracle"):
        make_pairs(recipe, this)
    assert not (this.folder / "pairs.jsonl").exists()
    lines = [json.loads(line) for line in (this.folder / "dropped.jsonl").read_text().splitlines()]
    assert [(one["id"], one["reason"]) for one in lines] == [("a", "tie"), ("b", "tie"), ("c", "tie")]


def test_what_was_left_out_is_told(drawn, base, tmp_path, monkeypatch, caplog):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch, oracle=f"{__name__}:only_the_first")
    make_pairs(recipe, this)
    told = read_provenance(this)
    assert (told["pairs"], told["dropped"], told["prompts"]) == (1, {"tie": 2}, 3)
    assert "round 1: 1 pairs; no pair of: 2 tie" in caplog.text


def only_the_first(prompts, first, second):
    """Alphabetical order, for one prompt alone."""
    return [0.5 + 0.4 * ((a > b) - (a < b)) * (p == PROMPTS[0]) for p, a, b in zip(prompts, first, second, strict=True)]


def test_a_damaged_account_is_a_clear_error(drawn, base, tmp_path, monkeypatch):
    recipe, this = prepared(drawn, base, tmp_path, monkeypatch)
    make_pairs(recipe, this)
    (this.folder / "pairs.json").write_text("{")
    with pytest.raises(DataError, match=r"remove pairs.jsonl beside it"):
        read_provenance(this)
