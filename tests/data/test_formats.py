import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trueup.data.fingerprint import fingerprint
from trueup.data.formats import FORMATS, detect_format, read_rows
from trueup.data.pairs import pairs_of
from trueup.data.rows import Message, Response
from trueup.errors import DataError, RecipeError

from .samples import write_jsonl
from .test_demonstration_formats import DEMONSTRATIONS

USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in [("user", "q"), ("assistant", "a"), ("assistant", "b")]
)
TRANSCRIPTS = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
EXAMPLES = {
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "implicit": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "transcript": TRANSCRIPTS,
    "unpaired": {"prompt": "q", "completion": "a", "label": True},
    "responses": {"prompt": "q", "responses": [{"text": "a", "score": 1}, {"text": "b", "score": 0}]},
    "ultrafeedback": {"instruction": "q", "completions": [{"response": "a", "overall_score": 1, "model": "m"}]},
    "nemo": {"context": [USER], "completions": [{"rank": 0, "completion": [GOOD]}, {"rank": 1, "completion": [BAD]}]},
    "rm-robustness": {"instruction": "q", "response_1_text": "a", "response_2_text": "b", "all_scores": [1, 0]},
    "rm-bench": {"prompt": "q", "chosen": ["a", "aa", "aaa"], "rejected": ["b", "bb", "bbb"], "domain": "chat"},
    "reward-bench": {
        "prompt": "q",
        "chosen": "a",
        "rejected": "b",
        "subset": "hep",
        "id": 1,
        "chosen_model": "m",
        "rejected_model": "n",
    },
    "reward-bench-2": {
        "prompt": "q",
        "chosen": ["a"],
        "rejected": ["b", "c", "d"],
        "num_correct": 1,
        "subset": "Math",
        "id": "1",
    },
    **DEMONSTRATIONS,
}


def test_every_format_has_an_example_and_is_told_by_it():
    assert EXAMPLES.keys() == FORMATS.keys()
    assert {name: detect_format(record) for name, record in EXAMPLES.items()} == {name: name for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
def test_every_format_is_read_from_every_kind_of_file(tmp_path, name, ending):
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([EXAMPLES[name]] * 2), path)
    elif ending == "json":
        path.write_text(json.dumps([EXAMPLES[name]] * 2))
    else:
        write_jsonl(path, EXAMPLES[name], EXAMPLES[name])
    file = read_rows(path)
    assert (file.format, file.problems, file.source) == (name, (), str(path))
    assert file.rows[0].responses[0].text == "a"
    assert file.fingerprint == fingerprint(file.rows)
    assert read_rows(path, format=name) == file


def test_hand_worked_rows(tmp_path):
    file = read_rows(write_jsonl(tmp_path / "f", {**EXAMPLES["preference"], "extra": 1, "id": None, "margin": 0.5}))
    (row,) = file.rows
    assert (row.prompt, row.id, row.margin, row.subset) == ("q", "row-1", 0.5, None)
    assert row.responses == (Response(text="a", label=True), Response(text="b", label=False))
    assert file.ignored == ("extra",)


def test_unpaired_records_are_grouped_by_prompt(tmp_path):
    records = [("p", "a", True), ("q", "b", False), ("p", "c", False), ("p", "d", True)]
    rows = [{"prompt": prompt, "completion": text, "label": label} for prompt, text, label in records]
    file = read_rows(write_jsonl(tmp_path / "f", *rows))
    assert [(row.prompt, [one.text for one in row.responses], row.origin.row) for row in file.rows] == [
        ("p", ["a", "c", "d"], 1),
        ("q", ["b"], 2),
    ]
    assert sorted(pairs_of(file.rows[0])) == [(0, 1), (2, 1)]
    assert len(read_rows(tmp_path / "f", limit=1).rows[0].responses) == 3


def test_names_are_unique(tmp_path):
    rows = [{**EXAMPLES["preference"], "id": id} for id in ("x", None, "x", "row-2", 5)]
    names = [row.id for row in read_rows(write_jsonl(tmp_path / "f", *rows)).rows]
    assert names[:2] == ["x", "row-2"]
    assert names[4] == "5"
    assert len(set(names)) == 5


def test_blank_lines_and_problems_are_counted(tmp_path):
    good, bad = json.dumps(TRANSCRIPTS), json.dumps({**TRANSCRIPTS, "rejected": "\n\nHuman: x\n\nAssistant: b"})
    plain = json.dumps({**TRANSCRIPTS, "rejected": "no transcript"})
    (tmp_path / "f").write_text(f"{good}\n\n{bad}\n{plain}\n{bad}\n\n")
    file = read_rows(tmp_path / "f")
    assert file.blank_lines == 2
    assert file.problem_counts() == {"prompts differ": 2, "not a transcript": 1}
    assert [problem.origin.row for problem in file.problems] == [3, 4, 5]


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_mixed_schemas_name_both_rows(tmp_path, first, second):
    path = write_jsonl(tmp_path / "f", EXAMPLES[first], EXAMPLES[first], EXAMPLES[second])
    if FORMATS[first].parse is FORMATS[second].parse:
        assert len(read_rows(path).rows) >= 1
        return
    expected = f"f:3: mixed schemas: this row is `{second}` .* but row 1 of .*f is `{first}`"
    if (first, second) == ("unpaired", "prompt-completion"):
        expected = "f:3, field `label`: the field is missing"
    with pytest.raises(DataError, match=expected):
        read_rows(path)


def test_text_and_messages_do_not_mix(tmp_path):
    path = write_jsonl(tmp_path / "f", EXAMPLES["preference"], {**EXAMPLES["preference"], "prompt": [USER]})
    with pytest.raises(DataError, match=r"f:2: mixed schemas.*in chat messages, but row 1 .* in plain text"):
        read_rows(path)


def test_mixing_reaches_across_the_files_of_a_folder(tmp_path):
    write_jsonl(tmp_path / "train-1.jsonl", EXAMPLES["preference"])
    write_jsonl(tmp_path / "train-2.jsonl", EXAMPLES["unpaired"])
    with pytest.raises(DataError, match=r"train-2.jsonl:1: mixed schemas.* row 1 of .*train-1.jsonl"):
        read_rows(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_field_missing_later_is_named(tmp_path, name):
    for field in FORMATS[name].core:
        if field == "num_correct" or field.startswith("response_"):
            continue
        record = {key: value for key, value in EXAMPLES[name].items() if key != field}
        path = write_jsonl(tmp_path / "f", EXAMPLES[name], record)
        with pytest.raises(DataError, match=f"f:2(, field `(prompt|{field})`: the field is missing|: mixed schemas)"):
            read_rows(path)


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        ({"prompt": "q", "chosen": "a"}, "rejected"),
        ({"chosen": "a", "rejected": None}, "rejected"),
        ({"prompt": "q", "label": True}, "completion"),
        ({"responses": []}, "prompt"),
    ],
)
def test_a_field_missing_in_the_first_row_is_named(tmp_path, record, missing):
    with pytest.raises(DataError, match="make no known format") as caught:
        read_rows(write_jsonl(tmp_path / "f", record))
    assert (caught.value.row, caught.value.field) == (1, missing)


def test_zero_usable_rows_say_why(tmp_path):
    bad = {**TRANSCRIPTS, "rejected": "\n\nHuman: x\n\nAssistant: b"}
    with pytest.raises(DataError, match=r"zero usable rows; the first of 2 problems is at row 1: prompts differ"):
        read_rows(write_jsonl(tmp_path / "f", bad, bad))


def test_limit_and_bad_settings(tmp_path):
    path = write_jsonl(tmp_path / "f", *[EXAMPLES["preference"]] * 5)
    assert [len(read_rows(path, limit=limit).rows) for limit in (1, 3, 9)] == [1, 3, 5]
    with pytest.raises(RecipeError, match="limit must be at least 1, got 0"):
        read_rows(path, limit=0)
    with pytest.raises(RecipeError, match=r"format must be auto or one of preference, .*, got cvs"):
        read_rows(path, format="cvs")


def test_hh_originals_give_exactly_the_prepared_pairs(shared_data):
    folder = shared_data / "hh-rlhf-harmless"
    file = read_rows(folder / "original-test.jsonl.gz")
    assert file.format == "transcript"
    assert len(file.rows) + len(file.problems) == 2312
    assert file.problem_counts() == {"prompts differ": 5}
    prepared = [row for split in ("train", "test") for row in read_rows(folder, split=split).rows]
    assert len(prepared) == 2303

    def content(row):
        return row.prompt, *(one.text for one in row.responses)

    answered = [row for row in file.rows if all(one.text for one in row.responses)]
    assert Counter(map(content, answered)) == Counter(map(content, prepared))


@pytest.mark.parametrize(
    ("name", "format", "rows", "pairs"),
    [
        ("hh-rlhf-harmless/train", "preference", 1849, 1849),
        ("hh-rlhf-harmless/test", "preference", 454, 454),
        ("hh-rlhf-helpful/train", "preference", 1872, 1872),
        ("hh-rlhf-helpful/test", "preference", 476, 476),
        ("rm-bench-chat/chat", "rm-bench", 129, 129 * 9),
        ("superhf-multi/responses", "responses", 476, None),
        ("opinpref/train", "preference", 800, 800),
        ("summeval-op/summeval-op", "responses", 32, None),
    ],
)
def test_real_files(shared_data, name, format, rows, pairs):
    file = read_rows(shared_data / f"{name}.jsonl.gz")
    assert (file.format, len(file.rows), file.problems, file.blank_lines) == (format, rows, (), 0)
    if pairs is not None:
        assert sum(len(pairs_of(row)) for row in file.rows) == pairs
    assert all(row.id and row.responses for row in file.rows)


def test_real_features_sources_and_prompts(shared_data):
    superhf = read_rows(shared_data / "superhf-multi" / "responses.jsonl.gz", limit=3).rows
    assert superhf[0].prompt == (Message("user", "I have to run to the bank right now."),)
    assert [len(row.responses) for row in superhf] == [12, 12, 12]
    assert (superhf[0].responses[1].source, superhf[0].responses[1].score) == ("alpaca_7b", -2.671875)
    opinpref = read_rows(shared_data / "opinpref" / "train.jsonl.gz", limit=1).rows[0]
    assert len(opinpref.responses[0].features) == 7
    summeval = read_rows(shared_data / "summeval-op" / "summeval-op.jsonl.gz", limit=1).rows[0]
    assert len(summeval.responses) == 13
    assert summeval.responses[0].features["Fluency"] == 4.33
