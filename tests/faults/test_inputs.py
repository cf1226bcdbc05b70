"""Data that cannot be used, through the verbs: one message, exit code 2, and nothing written."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from .conftest import Workshop
from .making import WORDS, make_records, make_scored, write_jsonl
from .processes import Outcome, assert_refused, run

GOOD = make_records(30)
LINES = "".join(json.dumps(record) + "\n" for record in GOOD)
TIE = {"prompt": "p", "responses": [{"text": "a", "score": 1.0}, {"text": "b", "score": 1.0}]}


def with_row(number: int, record: object) -> bytes:
    lines = LINES.splitlines(keepends=True)
    lines[number - 1] = (record if isinstance(record, str) else json.dumps(record)) + "\n"
    return "".join(lines).encode()


BAD = {
    "empty file": (b"", "the file is empty"),
    "only blank lines": (b"\n\n  \n", "zero usable rows"),
    "cut inside a line": (LINES.encode()[:-30], ":30: invalid JSON at column"),
    "cut inside gzip": (gzip.compress(LINES.encode())[:-30], "gzip data end early"),
    "rubbish inside gzip": (gzip.compress(LINES.encode())[:40] + b"\xff" * 99, "corrupt gzip data"),
    "cut Parquet": (b"PAR1" + b"\x15\x04" * 99, "corrupt Parquet data"),
    "binary rubbish": (bytes(range(128, 256)) * 4, "is not UTF-8"),
    "UTF-16": (LINES.encode("utf-16"), "UTF-16 text", "iconv -f utf-16"),
    "Latin-1": (LINES.encode() + '{"prompt": "caf\xe9"}\n'.encode("latin-1"), ":31: byte 0xe9", "iconv -f latin1"),
    "a lone surrogate": (with_row(7, '{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}'), ":7: an escape"),
    "missing field": (with_row(3, {"prompt": "p", "chosen": "a"}), ":3, field `rejected`: the field is missing"),
    "null field": (with_row(3, {**GOOD[0], "chosen": None}), ":3, field `chosen`: the field is null"),
    "wrong type": (with_row(9, {**GOOD[0], "chosen": 5}), ":9, field `chosen`: found number 5"),
    "mixed schemas": (with_row(5, {"prompt": "p", "completion": "c", "label": True}), ":5", "mixed schemas"),
    "a list as a row": (with_row(2, [1, 2]), ":2: the record is a JSON list"),
    "no known columns": (b'{"colour": "q", "weight": "a"}\n', "make no known format", "add or rename"),
    "deep nesting": (b'{"prompt": ' + b"[" * 100_000 + b"\n", ":1"),
    "all ties": ((json.dumps(TIE) + "\n").encode() * 5, "zero usable rows (5 tie)"),
    "all equal": (b'{"prompt": "p", "chosen": "a", "rejected": "a"}\n' * 3, "zero usable rows (3 identical responses)"),
    "one cut line of 1 MB": (b'{"prompt": "' + b"x" * 2**20, ":1: invalid JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_used(workshop: Workshop, tmp_path: Path, case: str) -> None:
    content, *fragments = BAD[case]
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    message = assert_refused(run(*workshop.training(tmp_path / "run", "--data.train", path)), path, *fragments)
    assert "data.jsonl" in message
    outcome = run(*workshop.training(tmp_path / "run", "--data.eval", path))
    assert_refused(outcome, path)
    if "usable rows (" not in fragments[0]:  # such rows can be looked at, if not trained on
        assert_refused(run("data", "check", path), path, *fragments)
        assert_refused(run("data", "split", "--data", path, "--output", tmp_path / "split"), path)
    assert os.listdir(tmp_path) == ["data.jsonl"]


def test_data_files_that_are_not_there(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "none.jsonl", tmp_path / "empty", "/dev/null", "nul\0"):
        assert_refused(run(*workshop.training(tmp_path / "run", "--data.train", place)))
        assert_refused(run("data", "check", place))
        assert_refused(run("score", "--model", workshop.model, "--data", place, "--output", tmp_path / "s.jsonl"))
    assert os.listdir(tmp_path) == ["empty"]


def test_lines_of_a_megabyte(workshop: Workshop, tmp_path: Path) -> None:
    """They are read, dropped for their length, counted and listed."""
    long = " ".join([WORDS[0]] * 2**18)
    path = write_jsonl(tmp_path / "d.jsonl", [{**GOOD[0], "chosen": long}, *GOOD])
    assert run("data", "check", path).code == 0
    outcome = run(*workshop.training(tmp_path / "run", "--data.train", path, "--max_steps", 1))
    assert outcome.code == 0
    (dropped,) = map(json.loads, (tmp_path / "run" / "dropped-train.jsonl").read_text().splitlines())
    assert (dropped["reason"], dropped["row"]) == ("too long", 1)


def test_all_rows_too_long(workshop: Workshop, tmp_path: Path) -> None:
    outcome = run(*workshop.training(tmp_path / "run", "--data.max_length", 2))
    assert_refused(outcome, workshop.data, "zero usable rows of 64: 64 too long", "raise data.max_length")
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    # what stopped it does not stand in the way of the cure
    assert run(*workshop.training(tmp_path / "run", "--max_steps", 1)).code == 0


def test_turns_that_the_template_refuses(workshop: Workshop, tmp_path: Path) -> None:
    """As templates do that know no system turns."""
    refusal = "{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    template = "{% for m in messages %}" + refusal + "{{ m['content'] }}{% endfor %}"
    tokenizer = AutoTokenizer.from_pretrained(workshop.model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    turns = [{"role": "user", "content": "ba"}]
    reply = [{"role": "assistant", "content": "ke"}], [{"role": "assistant", "content": "li"}]
    records = [{"prompt": turns, "chosen": reply[0], "rejected": reply[1]} for _ in range(4)]
    records[2] = {**records[2], "prompt": [{"role": "system", "content": "be good"}, *turns]}
    path = write_jsonl(tmp_path / "d.jsonl", records)
    words = ["--tokenizer", tmp_path / "tokenizer"]
    outcome = run(*workshop.training(tmp_path / "run", *words, "--data.train", path))
    assert_refused(outcome, f"{path}:3: the chat template refuses turns of system, user, assistant (no system turns)")
    assert_refused(run("data", "check", path, *words), f"{path}:3: the chat template refuses turns")


def test_strict_checks_refuse(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [*GOOD, {**GOOD[0], "chosen": "", "rejected": ""}])
    assert run("data", "check", path).code == 0
    outcome = run("data", "check", path, "--strict")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert len(outcome.messages) == 1


@pytest.mark.parametrize(
    ("records", "words", "fragment"),
    [
        (make_scored(40), ["--held_out_prompts", "2"], "held_out_prompts"),
        (make_scored(40), ["--held_out_sources", "99"], "held_out_sources"),
        (make_scored(40), ["--held_out_sources", "[nobody]"], "nobody"),
        (make_scored(40), ["--responses_per_prompt", "0"], "responses_per_prompt"),
        (make_scored(1), [], "d.jsonl"),
        (GOOD, [], "d.jsonl"),
    ],
)
def test_splits_that_cannot_be_made(tmp_path: Path, records: list[dict], words: list[str], fragment: str) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", records)
    assert_refused(run("data", "split", "--data", path, "--output", tmp_path / "out", *words), fragment)
    assert not (tmp_path / "out").exists()


GENERATED = settings(
    deadline=None, max_examples=70, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
COLUMNS = st.sampled_from(
    ["prompt", "chosen", "rejected", "responses", "completion", "label", "completions", "score", "context", "margin"]
)


def assert_refused_or_done(path: Path, output: Path) -> None:
    """No exception but the project's own leaves the verbs; a refusal names the file and writes nothing."""
    split = ["data", "split", "--data", path, "--output", output / "split", "--held_out_sources", 1]
    for words in (["data", "check", path, path, "--output", output / "check.json"], split):
        outcome: Outcome = run(*words)
        assert outcome.code in (0, 2)
        assert len(outcome.messages) == (outcome.code == 2)
    if outcome.code == 2:
        assert not (output / "split").exists()


@given(content=st.binary(max_size=150) | st.text(max_size=150).map(lambda t: t.encode("utf-8", "surrogatepass")))
@GENERATED
def test_random_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.jsonl").write_bytes(content)
    assert_refused_or_done(tmp_path / "f.jsonl", tmp_path)


@given(records=st.lists(st.dictionaries(COLUMNS, JSON, max_size=5), min_size=1, max_size=3))
@GENERATED
def test_random_values_in_known_columns(tmp_path: Path, records: list[dict]) -> None:
    write_jsonl(tmp_path / "f.jsonl", records)
    assert_refused_or_done(tmp_path / "f.jsonl", tmp_path)


@given(data=st.data())
@GENERATED
def test_scored_rows_with_one_value_changed(tmp_path: Path, data: st.DataObject) -> None:
    records = json.loads(json.dumps(make_scored(6, sources=4)))
    place, key = records, data.draw(st.integers(0, 5))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
    place[key] = data.draw(JSON)
    write_jsonl(tmp_path / "f.jsonl", records)
    assert_refused_or_done(tmp_path / "f.jsonl", tmp_path)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    pq.write_table(pa.Table.from_pylist(make_scored(6, sources=4)), path, write_page_checksum=True)
    return path.read_bytes()


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans(), kind=st.sampled_from("pg"))
@GENERATED
def test_damaged_archives(tmp_path: Path, parquet: bytes, share: float, bit: int, cut: bool, kind: str) -> None:
    content = bytearray(parquet if kind == "p" else gzip.compress(LINES.encode(), mtime=0))
    place = int(share * len(content))
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    (tmp_path / "f").write_bytes(bytes(content))
    assert_refused_or_done(tmp_path / "f", tmp_path)
