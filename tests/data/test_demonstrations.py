import hashlib
import json
import logging
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.data.demonstrations import read_prompts, select_demonstrations
from trueup.data.formats import read_rows
from trueup.data.pairs import ranking_of
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Origin, Response
from trueup.data.selection import Dropped
from trueup.errors import DataError, RecipeError

from .samples import TEXT, pair_row, row_lists, scored_row, write_jsonl
from .test_demonstration_formats import DEMONSTRATIONS

USER, REPLY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CHAT = (Message("user", "q"),)
PREFERENCE = {"prompt": "q", "chosen": "a", "rejected": "b"}


def labelled(*answers: tuple[str, bool | None, float | None], number: int = 1):
    responses = tuple(Response(text=text, label=label, score=score) for text, label, score in answers)
    return replace(pair_row("p", "", "", number=number), responses=responses)


def texts(row, which):
    kept = select_demonstrations([row], which=which).kept
    return [one.text for one in kept[0].responses] if kept else None


@pytest.mark.parametrize(
    ("row", "every", "best"),
    [
        (pair_row("p", "a", "b"), ["a", "b"], ["a"]),
        (scored_row(None, texts=["a"]), ["a"], ["a"]),
        (scored_row(None, None, texts=["a", "b"]), ["a", "b"], ["a", "b"]),
        (scored_row(1.0, 3.0, 2.0, texts=["a", "b", "c"]), ["a", "b", "c"], ["b"]),
        (scored_row(3.0, 1.0, 3.0, texts=["a", "b", "c"]), ["a", "b", "c"], ["a", "c"]),
        (scored_row(-2.0, None, texts=["a", "b"]), ["a", "b"], ["a"]),
        (scored_row(1.0, 3.0, texts=["a", " \n"]), ["a"], ["a"]),
        (scored_row(1.0, 2.0, 3.0, texts=["a", "b", "a"]), ["a", "b"], ["a"]),
        (labelled(("a", True, 0.0), ("b", False, 9.0), ("c", True, 1.0)), ["a", "b", "c"], ["a", "c"]),
        (labelled(("a", True, None), ("b", None, None)), ["a", "b"], ["a"]),
        (labelled(("a", False, 1.0), ("b", False, 2.0)), ["a", "b"], None),
        (labelled(("a", False, None), ("", True, None)), ["a"], None),
        (pair_row("p", "", "\t"), None, None),
    ],
)
def test_hand_worked_choices(row, every, best):
    assert texts(row, "all") == every
    assert texts(row, "best") == best


def test_everything_left_out_is_listed_with_its_reason():
    row = labelled(("a", True, None), ("b", False, None), (" ", True, None), ("c", None, None), ("a", True, None))
    place = Origin("made", 1)
    assert select_demonstrations([row], which="best").dropped == (
        Dropped("response rejected", place, "r1", "response 2 of 5"),
        Dropped("response empty", place, "r1", "response 3 of 5"),
        Dropped("response not the best", place, "r1", "response 4 of 5"),
        Dropped("response repeated", place, "r1", "response 5 of 5, the same as one at made:1"),
    )


def test_rows_left_empty_are_dropped_whole():
    rows = [pair_row("p", "", ""), labelled(("a", False, None), ("", True, None), number=2)]
    problem = Problem("no final reply", Origin("f", 9), "ends in a question")
    selection = select_demonstrations(rows, which="best", problems=[problem])
    assert selection.kept == ()
    assert selection.dropped == (
        Dropped("no final reply", Origin("f", 9), None, "ends in a question"),
        Dropped("empty responses", Origin("made", 1), "r1", "all 2 responses are empty"),
        Dropped("no chosen response", Origin("made", 2), "r2", "none of 2 responses is the best"),
    )


def test_repeats_across_rows_are_dropped_on_request():
    rows = [
        scored_row(1.0, 2.0, texts=["a", "b"], prompt="p"),
        scored_row(None, None, texts=["b", "c"], prompt="p", number=2),
        scored_row(None, texts=["c"], prompt="p", number=3),
        scored_row(None, texts=["c"], prompt="q", number=4),
    ]
    assert select_demonstrations(rows, which="all").kept == tuple(rows)
    selection = select_demonstrations(rows, which="all", drop_duplicates=True)
    assert [[one.text for one in row.responses] for row in selection.kept] == [["a", "b"], ["c"], ["c"]]
    assert selection.dropped == (
        Dropped("response repeated", Origin("made", 2), "r2", "response 1 of 2, the same as one at made:1"),
        Dropped("duplicate row", Origin("made", 3), "r3", "response 1 of 1, the same as one at made:2"),
    )
    # what an earlier row left out is not there to be repeated
    left_out = [pair_row("p", "a", "b"), scored_row(None, texts=["b"], prompt="p", number=2)]
    assert len(select_demonstrations(left_out, which="best", drop_duplicates=True).kept) == 2


def test_which_is_checked():
    with pytest.raises(RecipeError, match="which must be one of all, best, got worst"):
        select_demonstrations([], which="worst")


@given(row_lists(), st.sampled_from(["all", "best"]), st.booleans())
@settings(deadline=None)
def test_nothing_is_lost(rows, which, drop_duplicates):
    selection = select_demonstrations(rows, which=which, drop_duplicates=drop_duplicates)
    single = [one for one in selection.dropped if one.reason.startswith("response ")]
    whole = [one for one in selection.dropped if not one.reason.startswith("response ")]
    assert sorted([row.id for row in selection.kept] + [one.id for one in whole]) == sorted(row.id for row in rows)
    given = {row.id: row for row in rows}
    for row in selection.kept:
        removed = sum(one.id == row.id for one in single)
        assert len(row.responses) + removed == len(given[row.id].responses)
        assert all(one.text.strip() and one in given[row.id].responses for one in row.responses)
        assert len({one.text for one in row.responses}) == len(row.responses)
        if which == "best":
            assert all(one.label is not False for one in row.responses)
            assert len(ranking_of(row)) <= 1
    if drop_duplicates:
        shown = [(row.prompt, one.text) for row in selection.kept for one in row.responses]
        assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "q"}, "q"),
        ({"prompt": ""}, ""),
        ({"prompt": [USER]}, CHAT),
        ({"prompt": "q", "response": None, "label": False}, "q"),
        ({"prompt": "q", "response": 4, "answer": 4}, "q"),
        ({"prompt": "q", "completion": [REPLY], "label": True}, "q"),
        ({"messages": [USER]}, CHAT),
        ({"messages": [USER, REPLY]}, CHAT),
        ({"messages": [USER, REPLY, USER]}, (*CHAT, Message("assistant", "a"), *CHAT)),
        ({"messages": [USER], "prompt": "q"}, CHAT),
        ({"conversations": [{"from": "human", "value": "q"}]}, CHAT),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, CHAT),
        ({"instruction": "q"}, "q"),
        ({"instruction": "q", "input": "i", "output": ["no text"]}, "q\n\ni"),
        ({"question": "q"}, "q"),
        ({"question": "q", "answer": 4}, "q"),
        ({"question": "q", "text": "t"}, "q"),
        ({"prompt": "q", "completion": "a"}, "q"),
        (PREFERENCE, "q"),
        ({"chosen": [USER, REPLY], "rejected": [USER, {**REPLY, "content": "b"}]}, CHAT),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, CHAT),
        ({"prompt": "q", "responses": [{"text": "a"}]}, "q"),
        ({"prompt": "q", "chosen": "a"}, "q"),
    ],
)
def test_prompts_of_every_shape(tmp_path, record, prompt):
    file = read_prompts(write_jsonl(tmp_path / "f", record, record))
    if (record.get("completion"), record.get("label")) == ([REPLY], True):
        prompt = CHAT  # the labelled format itself makes a chat of a text prompt with a chat reply
    assert (file.prompts, file.ids, file.repeated, file.problems) == ((prompt,), ("row-1",), 1, ())
    assert file.origins == (Origin(str(tmp_path / "f"), 1),)


@pytest.mark.parametrize("name", sorted(DEMONSTRATIONS.keys() - {"text"}))
def test_prompts_of_demonstrations_are_those_of_their_rows(tmp_path, name):
    path = write_jsonl(tmp_path / "f", DEMONSTRATIONS[name])
    assert read_prompts(path).prompts == tuple(row.prompt for row in read_rows(path).rows)


def test_repeated_prompts_are_kept_once_and_counted_in_one_line(tmp_path, caplog):
    records = [{"prompt": text, "id": id} for text, id in (("p", "x"), ("q", "x"), ("p", "z"), ("r", None), ("p", "y"))]
    path = write_jsonl(tmp_path / "f", *records)
    with caplog.at_level(logging.INFO, logger="trueup"):
        file = read_prompts(str(path))
    assert (file.prompts, file.repeated, file.source) == (("p", "q", "r"), 2, str(path))
    assert file.ids == ("x", "x#2", "row-3")
    assert [origin.row for origin in file.origins] == [1, 2, 4]
    assert [one.getMessage() for one in caplog.records] == [
        f"{path}: 2 records repeat a prompt; each prompt is kept once"
    ]


def test_prompts_alone_and_with_replies_may_share_a_file(tmp_path):
    records = [{"prompt": "p", "response": "a"}, {"prompt": "q", "response": None}, {"prompt": "r"}]
    assert read_prompts(write_jsonl(tmp_path / "f", *records)).prompts == ("p", "q", "r")


def test_prompts_alone_may_be_text_and_chat(tmp_path):
    assert read_prompts(write_jsonl(tmp_path / "f", {"prompt": "q"}, {"prompt": [USER]})).prompts == ("q", CHAT)


def test_limit_counts_different_prompts(tmp_path):
    path = write_jsonl(tmp_path / "f", *({"prompt": text} for text in "ppqrs"))
    assert [read_prompts(path, limit=limit).prompts for limit in (1, 2, 9)] == [("p",), ("p", "q"), tuple("pqrs")]
    with pytest.raises(RecipeError, match="limit must be at least 1, got 0"):
        read_prompts(path, limit=0)


def test_prompt_fingerprints_see_names_and_prompts_but_not_places(tmp_path):
    known = read_prompts(write_jsonl(tmp_path / "f", {"prompt": "é"}, {"prompt": "q"})).fingerprint
    assert known == hashlib.sha256('["row-1","é"]\n["row-2","q"]\n'.encode()).hexdigest()
    pq.write_table(pa.Table.from_pylist([{"prompt": "é"}, {"prompt": "q"}]), tmp_path / "elsewhere.parquet")
    assert read_prompts(tmp_path / "elsewhere.parquet").fingerprint == known
    others = [[{"prompt": "q"}, {"prompt": "é"}], [{"prompt": "é", "id": "x"}, {"prompt": "q"}], [{"prompt": "é"}]]
    found = {read_prompts(write_jsonl(tmp_path / "f", *other)).fingerprint for other in others}
    assert len(found | {known}) == 4


def test_splits_of_a_folder(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", {"prompt": "p"})
    write_jsonl(tmp_path / "test.jsonl", {"prompt": "q"})
    assert read_prompts(tmp_path, split="test").prompts == ("q",)
    with pytest.raises(DataError, match="several splits"):
        read_prompts(tmp_path)


def test_dialogues_without_a_prompt_are_listed(tmp_path):
    file = read_prompts(write_jsonl(tmp_path / "f", {"messages": [REPLY]}, {"messages": [USER]}))
    assert file.prompts == (CHAT,)
    assert file.problems == (Problem("no prompt", Origin(str(tmp_path / "f"), 1), "the dialogue holds a reply alone"),)
    with pytest.raises(DataError, match=r"f: zero usable prompts; the first of 2 problems is at row 1: no prompt \("):
        read_prompts(write_jsonl(tmp_path / "f", {"messages": [REPLY]}, {"messages": [REPLY]}))


def test_pairs_whose_prompts_differ_are_listed(tmp_path):
    good = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    bad = {**good, "rejected": "\n\nHuman: r\n\nAssistant: b"}
    file = read_prompts(write_jsonl(tmp_path / "f", good, bad))
    assert (file.prompts, [one.reason for one in file.problems]) == ((CHAT,), ["prompts differ"])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"text": "t"}], "f:1, field `prompt`: the field is missing; expected a prompt, here or in `messages`"),
        ([{"response": "a"}], "f:1, field `prompt`: the field is missing"),
        ([{"prompt": None}], "f:1, field `prompt`: the field is null"),
        ([{"prompt": 3}], "f:1, field `prompt`: found number 3; expected a string or a list"),
        ([{"prompt": []}], "f:1, field `prompt`: found list .*; expected a list with at least one entry"),
        ([{"prompt": "q"}, {"prompt": None}], "f:2, field `prompt`: the field is null"),
        ([{"prompt": "q"}, {"question": "q"}], "f:2, field `prompt`: the field is missing"),
        ([{"prompt": "q"}, PREFERENCE], "f:2: mixed schemas: this row is `preference`"),
        ([{"prompt": "q", "instruction": "do"}], "f:1, field `prompt`: found `prompt` and `instruction`"),
        ([{"instruction": "q"}, {"instruction": 3}], "f:2, field `instruction`: found number 3; expected a string"),
        ([{"messages": []}], "f:1, field `messages`: found list"),
        ([{"messages": [USER]}, {"messages": [{"role": "user"}]}], r"f:2, field `messages\[0\].content`: the field is"),
        ([{"prompt": "q", "id": [1]}], "f:1, field `id`: found list"),
        ([PREFERENCE, {**PREFERENCE, "rejected": None}], "f:2, field `rejected`: the field is null"),
    ],
)
def test_bad_prompts_are_named(tmp_path, records, message):
    with pytest.raises(DataError, match=message):
        read_prompts(write_jsonl(tmp_path / "f", *records))


TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}), min_size=1, max_size=3
)


@given(st.lists(st.fixed_dictionaries({"messages": TURNS}), min_size=1, max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_record_is_a_prompt_a_repeat_or_a_problem(tmp_path, records):
    path = write_jsonl(tmp_path / "f", *records)
    if all([turn["role"] for turn in record["messages"]] == ["assistant"] for record in records):
        with pytest.raises(DataError, match="zero usable prompts"):
            read_prompts(path)
        return
    file = read_prompts(path)
    assert len(file.prompts) + file.repeated + len(file.problems) == len(records)
    assert len(set(file.prompts)) == len(file.prompts) == len(set(file.ids)) == len(file.origins)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({name for record in DEMONSTRATIONS.values() for name in record} | {"question", "id"}))


@given(st.lists(st.dictionaries(NAMES, JSON_VALUES, max_size=5), min_size=1, max_size=3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_random_values_give_prompts_and_rows_or_one_clear_error(tmp_path, records):
    path = tmp_path / "f"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for read in (read_prompts, _rows_to_learn):
        try:
            read(path)
        except DataError as error:
            complaint = str(error)
        else:
            continue
        assert str(path) in complaint
        assert len(complaint) < 2000


def _rows_to_learn(path):
    file = read_rows(path)
    return select_demonstrations(file.rows, which="best", problems=file.problems)


@pytest.mark.parametrize(
    ("name", "prompts", "repeated"),
    [("superhf-multi/responses", 476, 0), ("rm-bench-chat/chat", 129, 0), ("summeval-op/summeval-op", 32, 0)],
)
def test_real_prompts(shared_data, name, prompts, repeated):
    path = shared_data / f"{name}.jsonl.gz"
    file = read_prompts(path)
    assert (len(file.prompts), file.repeated, file.problems) == (prompts, repeated, ())
    assert file.ids == tuple(row.id for row in read_rows(path).rows)


def test_real_demonstrations(shared_data):
    file = read_rows(shared_data / "hh-rlhf-helpful" / "test.jsonl.gz")
    selection = select_demonstrations(file.rows, which="best", problems=file.problems)
    assert [row.responses for row in selection.kept] == [row.responses[:1] for row in file.rows]
    assert selection.summary() == {"response rejected": 476}
