import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.pool_files import Gap, PoolFolder, cut
from trueup.data.pool_parts import Run, part_files
from trueup.data.pools import Pool, distinct
from trueup.data.rows import Message
from trueup.errors import DataError, RecipeError

SETTINGS = {"policy": "tiny", "temperature": 1.0, "seed": 0}
CHAT = (Message("system", "Be brief."), Message("user", "Hi."))
PROMPTS = {"a": "Name a bird.", "b": CHAT, "c": ""}


def samples_of(key: str, start: int, count: int) -> Run:
    """Responses that say which they are."""
    numbers = range(start, start + count)
    columns = {
        "response": [f"{key} {number} λ\n" if number % 3 else "" for number in numbers],
        "tokens": [number + 1 for number in numbers],
        "finished": [number % 2 == 0 for number in numbers],
        "logprob": [-0.1 * number if number != 1 else math.nan for number in numbers],
    }
    return Run(key, start, count, columns, prompt=PROMPTS[key])


def scores_of(key: str, start: int, count: int, **more: list[float]) -> Run:
    return Run(key, start, count, {"reward": [ord(key) + 0.5 * n for n in range(start, start + count)], **more})


@pytest.fixture
def folder(tmp_path: Path) -> PoolFolder:
    made = PoolFolder(tmp_path / "pool")
    made.begin(SETTINGS, created_by={"versions": {}})
    made.append([samples_of("a", 0, 4), samples_of("b", 0, 4)])
    return made


def pool(**changes: object) -> Pool:
    made = Pool(
        ids=("a", "b"),
        prompts=("A", "B"),
        responses=(("x", "y", "x"), ("z", "z", "z")),
        tokens=np.ones((2, 3), int),
        finished=np.ones((2, 3), bool),
        logprob=np.zeros((2, 3)),
        scores={"bt": np.arange(6.0).reshape(2, 3), "bt/0": np.zeros((2, 3)), "bt/1": np.ones((2, 3))},
    )
    return replace(made, **changes)


def test_what_is_stored_is_read_back_exactly(folder: PoolFolder) -> None:
    folder.append([samples_of("c", 0, 4)])
    read = folder.read()
    assert read.ids == ("a", "b", "c")
    assert read.prompts == tuple(PROMPTS.values())
    assert read.settings == SETTINGS
    for row, key in enumerate(read.ids):
        wanted = samples_of(key, 0, 4).columns
        assert list(read.responses[row]) == wanted["response"]
        assert read.tokens[row].tolist() == wanted["tokens"]
        assert read.finished[row].tolist() == wanted["finished"]
        np.testing.assert_array_equal(read.logprob[row], wanted["logprob"])


def test_growing_keeps_what_is_there_and_never_touches_it(folder: PoolFolder) -> None:
    first = (folder.path / "samples" / "000000.parquet").read_bytes()
    folder.append([samples_of("a", 4, 2), samples_of("b", 4, 2)])
    folder.append([samples_of("c", 0, 6)])
    folder.begin_reward("bt", place="models/bt", fingerprint="1")
    folder.append([scores_of(key, 0, 6) for key in "abc"], reward="bt")
    read = folder.read(rewards=["bt"])
    assert read.shape == (3, 6)
    assert read.responses[0][:4] == folder.read(samples=4).responses[0]
    assert read.scores["bt"][1].tolist() == [98 + 0.5 * n for n in range(6)]
    assert (folder.path / "samples" / "000000.parquet").read_bytes() == first
    assert folder.rewards == ("bt",)


def test_prompts_come_in_the_order_asked_for(folder: PoolFolder) -> None:
    read = folder.read(["b", "a"], samples=2)
    assert (read.ids, read.shape) == (("b", "a"), (2, 2))
    assert read.responses[1] == tuple(samples_of("a", 0, 2).columns["response"])


def test_what_is_missing(folder: PoolFolder) -> None:
    assert folder.missing(["a", "b"], 4) == []
    assert folder.missing(["a", "b", "c"], 6) == [Gap(("c",), 0, 6), Gap(("a", "b"), 4, 2)]
    assert folder.missing(["b", "a"], 5) == [Gap(("b", "a"), 4, 1)]
    assert folder.missing(["a"], 3) == []
    folder.begin_reward("bt", place="bt", fingerprint=None)
    folder.append([scores_of("a", 0, 3)], reward="bt")
    assert folder.missing(["a", "b"], 4, reward="bt") == [Gap(("b",), 0, 4), Gap(("a",), 3, 1)]


def test_a_hole_in_the_middle_is_filled(folder: PoolFolder) -> None:
    folder.append([samples_of("a", 6, 2)])
    assert folder.missing(["a"], 10) == [Gap(("a",), 4, 2), Gap(("a",), 8, 2)]
    folder.append([samples_of("a", 4, 2)])
    assert folder.read(["a"]).responses[0] == tuple(samples_of("a", 0, 8).columns["response"])


@given(
    runs=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=5),
    samples=st.integers(1, 16),
    size=st.integers(1, 9),
)
def test_gaps_are_the_complement_of_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]], samples: int, size: int
) -> None:
    folder = PoolFolder(tmp_path_factory.mktemp("pool"))
    there: set[int] = set()
    for start, count in runs:
        folder.append([samples_of("a", start, count)])
        there |= set(range(start, start + count))
    pieces = list(cut(folder.missing(["a", "b"], samples), samples=size))
    for key, known in (("a", there), ("b", set())):
        found = [n for p in pieces if key in p.ids for n in range(p.start, p.start + p.count)]
        assert sorted(found) == sorted(set(range(samples)) - known)
    assert all(
        piece.count * len(piece.ids) <= size or (len(piece.ids) == 1 and piece.count <= size) for piece in pieces
    )


@given(texts=st.lists(st.sampled_from(["", "a", "b", "λ"]), min_size=1))
def test_distinct_texts_spread_back(texts: list[str]) -> None:
    different, index = distinct(texts)
    assert [different[place] for place in index] == texts
    assert len(different) == len(set(texts))


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = PoolFolder(tmp_path_factory.mktemp("pool"))
    folder.begin({}, created_by={})
    run = samples_of("a", 0, 1)
    folder.append([replace(run, columns={**run.columns, "response": [text]}, prompt=text)])
    read = folder.read()
    assert (read.responses, read.prompts) == (((text,),), (text,))


def test_members_and_norms_have_names_below_their_rewards(folder: PoolFolder) -> None:
    folder.begin_reward("my model!", place="x", fingerprint=None)
    more = {"0": [1.0] * 4, "1": [2.0] * 4, "hidden_norm": [3.0] * 4}
    folder.append([scores_of("a", 0, 4, **more)], reward="my model!")
    read = folder.read(["a"], rewards=["my model!"])
    assert set(read.scores) == {"my model!", "my model!/0", "my model!/1", "my model!/hidden_norm"}
    assert read.rewards == ("my model!",)
    members = read.members("my model!")
    assert members is not None
    assert members.tolist() == [[[1.0] * 4], [[2.0] * 4]]


def test_names_of_rewards_never_share_a_folder(folder: PoolFolder) -> None:
    names = ["a b", "a-b", "a:b", ".a", "a", "..", "λ" * 300]
    for place, name in enumerate(names):
        folder.begin_reward(name, place=str(place), fingerprint=None)
        folder.append([Run("a", 0, 1, {"reward": [float(place)]})], reward=name)
    read = folder.read(["a"], samples=1, rewards=names)
    assert [read.scores[name].item() for name in names] == list(range(len(names)))
    assert folder.rewards == tuple(sorted(names))


def test_settings_that_differ_are_refused(folder: PoolFolder) -> None:
    folder.begin(SETTINGS, created_by={})
    with pytest.raises(DataError, match=r"drawn with temperature 1.0, not 0.7.*one distribution.*another folder"):
        folder.begin({**SETTINGS, "temperature": 0.7}, created_by={})
    with pytest.raises(DataError, match=r"drawn with top_p None, not 0.9"):
        folder.begin({**SETTINGS, "top_p": 0.9}, created_by={})


def test_a_policy_is_known_by_its_files_and_not_by_its_place(tmp_path: Path) -> None:
    folder = PoolFolder(tmp_path)
    folder.begin({"policy": "here", "policy_fingerprint": "1"}, created_by={})
    folder.begin({"policy": "there", "policy_fingerprint": "1"}, created_by={})
    with pytest.raises(DataError, match="policy_fingerprint '1', not '2'"):
        folder.begin({"policy": "here", "policy_fingerprint": "2"}, created_by={})


def test_prompts_of_the_same_name_must_be_the_same(folder: PoolFolder) -> None:
    folder.check_prompts(["a", "new"], ["Name a bird.", "anything"])
    with pytest.raises(DataError, match="prompt 2, 'b', is not the pool's prompt of that name"):
        folder.check_prompts(["a", "b"], ["Name a bird.", "Hi."])


def test_a_reward_with_other_weights_scores_again(folder: PoolFolder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert not folder.holds_reward("bt", place="models/bt", fingerprint="1")
    folder.begin_reward("bt", place="models/bt", fingerprint="1")
    folder.append([scores_of("a", 0, 4)], reward="bt")
    folder.begin_reward("bt", place="models/bt", fingerprint="1")
    assert folder.holds_reward("bt", place="models/bt", fingerprint="1")
    assert (folder.missing(["a"], 4, reward="bt"), caplog.text) == ([], "")
    assert not folder.holds_reward("bt", place="models/bt", fingerprint="2")
    folder.begin_reward("bt", place="models/bt", fingerprint="2")
    assert "models/bt has changed since it scored the pool" in caplog.text
    assert folder.missing(["a"], 4, reward="bt") == [Gap(("a",), 0, 4)]


def test_two_rewards_cannot_have_one_name(folder: PoolFolder) -> None:
    folder.begin_reward("bt", place="one", fingerprint="1")
    folder.begin_reward("bt", place="the same, moved", fingerprint="1")
    with pytest.raises(DataError, match=r"holds scores of one under the name 'bt', not of other; .*LABEL=other"):
        folder.begin_reward("bt", place="other", fingerprint="2")
    folder.begin_reward("fn", place="a:f", fingerprint=None)
    with pytest.raises(DataError, match="holds scores of a:f"):
        folder.begin_reward("fn", place="a:g", fingerprint=None)
    with pytest.raises(RecipeError, match="no slash"):
        folder.begin_reward("a/b", place="x", fingerprint=None)


def test_missing_scores_are_named(folder: PoolFolder) -> None:
    with pytest.raises(DataError, match=r"field `bt`: there are no scores of that name.*none"):
        folder.read(rewards=["bt"])
    folder.begin_reward("bt", place="bt", fingerprint=None)
    folder.append([scores_of("a", 0, 4), scores_of("b", 0, 3)], reward="bt")
    with pytest.raises(DataError, match="prompt 'b' has 3 scores of 4; expected 4 scores for every prompt"):
        folder.read(rewards=["bt"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_never_stored(folder: PoolFolder, bad: float) -> None:
    folder.begin_reward("bt", place="bt", fingerprint=None)
    run = Run("a", 2, 2, {"reward": [1.0, bad]})
    with pytest.raises(DataError, match=r"field `bt`: (nan|-?inf) for sample 4 of prompt 'a'"):
        folder.append([run], reward="bt")
    assert part_files(folder.path / "rewards" / "bt") == []


def test_nan_planted_in_a_file_is_found(folder: PoolFolder) -> None:
    folder.begin_reward("bt", place="bt", fingerprint=None)
    folder.append([scores_of("a", 0, 4)], reward="bt")
    path = folder.path / "rewards" / "bt" / "000000.parquet"
    table = pq.read_table(path)
    position = table.schema.get_field_index("reward")
    values = [[1.0, None, 2.0, 3.0]]
    pq.write_table(table.set_column(position, table.schema.field("reward"), [values]), path)
    with pytest.raises(DataError, match="nan for sample 2 of prompt 'a'"):
        folder.read(["a"], rewards=["bt"])


def test_unknown_columns_of_scores_are_refused(folder: PoolFolder) -> None:
    folder.begin_reward("bt", place="bt", fingerprint=None)
    with pytest.raises(DataError, match="field `score`: is no column of scores"):
        folder.append([Run("a", 0, 1, {"score": [1.0]})], reward="bt")


def test_ragged_pools_are_refused_unless_cut(folder: PoolFolder) -> None:
    folder.append([samples_of("a", 4, 2)])
    with pytest.raises(DataError, match="prompt 'b' has 4 samples and prompt 'a' has 6"):
        folder.read()
    assert folder.read(samples=4).shape == (2, 4)
    with pytest.raises(DataError, match="prompt 'a' has 6 samples of 8, and 1 more prompts lack some"):
        folder.read(samples=8)


def test_prompts_without_samples_are_named(folder: PoolFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples for prompt 'zzz'"):
        folder.read(["a", "zzz"])
    with pytest.raises(DataError, match="holds no pool"):
        PoolFolder(tmp_path / "nothing").read()
    empty = PoolFolder(tmp_path / "empty")
    empty.begin(SETTINGS, created_by={})
    with pytest.raises(DataError, match="the pool has no samples"):
        empty.read()


def test_samples_in_two_parts_are_refused(folder: PoolFolder) -> None:
    folder.append([samples_of("a", 3, 2)])
    with pytest.raises(DataError, match=r"000001.parquet: samples of prompt 'a' stand in two parts"):
        folder.read(["a"])


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:40] + b"\xff" * 60 + b[100:]]
)
def test_a_damaged_part_is_named_and_can_be_made_again(folder: PoolFolder, damage: object) -> None:
    path = folder.path / "samples" / "000000.parquet"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"000000.parquet: corrupt Parquet data .*remove this file"):
        folder.read()
    path.unlink()
    assert folder.missing(["a", "b"], 4) == [Gap(("a", "b"), 0, 4)]


def test_a_part_with_other_columns_is_named(folder: PoolFolder) -> None:
    path = folder.path / "samples" / "000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["tokens"]), path)
    with pytest.raises(DataError, match="field `tokens`: there is no such column"):
        folder.read()


def test_lists_of_the_wrong_length_are_named(folder: PoolFolder) -> None:
    folder.append([replace(samples_of("c", 0, 3), count=4)])
    with pytest.raises(DataError, match=r"000001.parquet:1, field `response`: 3 values for 4 samples of prompt 'c'"):
        folder.read(["c"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "other/1", "settings": {}}'])
def test_a_folder_that_is_no_pool_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pool.json").write_text(content)
    with pytest.raises(DataError, match=r"pool\.json"):
        PoolFolder(tmp_path).begin(SETTINGS, created_by={})


def test_what_a_killed_process_left_is_removed_and_never_read(folder: PoolFolder) -> None:
    leftover = folder.path / "samples" / ".0123456789ab.partial"
    leftover.write_bytes(b"half")
    assert folder.read().shape == (2, 4)
    folder.begin(SETTINGS, created_by={})
    assert not leftover.exists()


def test_the_settings_are_readable(folder: PoolFolder) -> None:
    stored = json.loads((folder.path / "pool.json").read_text())
    assert (stored["schema"], stored["settings"]) == ("trueup.pool/1", SETTINGS)


def test_a_pool_in_memory_checks_itself() -> None:
    with pytest.raises(DataError, match="prompt 'b' has 2 samples and prompt 'a' has 3"):
        pool(responses=(("x", "y", "x"), ("z", "z")))
    with pytest.raises(DataError, match=r"field `bt`: has shape \(2, 2\)"):
        pool(scores={"bt": np.zeros((2, 2))})
    with pytest.raises(DataError, match="field `bt`: nan for sample 3 of prompt 'b' "):
        pool(scores={"bt": np.array([[0, 0, 0], [0, 0, math.nan]])})
    with pytest.raises(DataError, match="0 ids"):
        pool(ids=())


def test_a_pool_in_memory_is_cut_and_asked() -> None:
    cut_pool = pool().first(2)
    assert cut_pool.shape == (2, 2)
    assert cut_pool.score("bt").tolist() == [[0, 1], [3, 4]]
    assert cut_pool.rewards == ("bt",)
    with pytest.raises(DataError, match="field `gold`: the pool has no such scores; expected one of: bt"):
        cut_pool.score("gold")
    with pytest.raises(RecipeError, match="between 1 and the pool's 3, got 4"):
        pool().first(4)
    assert pool(scores={"fn": np.zeros((2, 3))}).members("fn") is None
