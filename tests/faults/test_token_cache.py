"""Tokenised rows are kept by content: used again, never used for other content, and never trusted when damaged."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trueup.data import tokens
from trueup.data.formats import read_rows
from trueup.data.rows import Row
from trueup.data.templates import TextFormat, infer_format
from trueup.data.tokens import TokenTable, tokenize_rows

from .conftest import Workshop
from .processes import run


@pytest.fixture
def rows(workshop: Workshop) -> tuple[Row, ...]:
    return read_rows(workshop.data).rows


@pytest.fixture
def tokenizer(workshop: Workshop) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(workshop.model)


@pytest.fixture
def form(rows: tuple[Row, ...], tokenizer: PreTrainedTokenizerBase) -> TextFormat:
    return infer_format(rows, tokenizer, max_length=64)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the tokeniser was given."""
    seen: list[int] = []
    real = tokens.encode
    monkeypatch.setattr(tokens, "encode", lambda texts, **options: (seen.append(len(texts)), real(texts, **options))[1])
    return seen


def same(one: TokenTable, other: TokenTable) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_a_second_start_does_not_tokenise(
    workshop: Workshop, tmp_path: Path, calls: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = tmp_path / "cache"
    words = ["--data.cache", cache, "--max_steps", 1]
    assert run(*workshop.training(tmp_path / "one", *words)).code == 0
    assert sum(calls) == 128
    assert "tokenised 64 rows into" in caplog.text
    calls.clear()
    assert run(*workshop.training(tmp_path / "two", *words)).code == 0
    assert calls == []
    assert "64 rows were tokenised before" in caplog.text
    (entry,) = cache.iterdir()
    assert sorted(path.name for path in entry.iterdir())[0] == "branch_length.npy"


def test_anything_that_changes_ids_changes_the_key(
    rows: tuple[Row, ...], tokenizer: PreTrainedTokenizerBase, form: TextFormat, tmp_path: Path
) -> None:
    def fresh() -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(tokenizer.name_or_path)

    def added() -> PreTrainedTokenizerBase:
        other = fresh()
        other.add_tokens(["brandnew"])
        return other

    def templated() -> PreTrainedTokenizerBase:
        other = fresh()
        other.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        return other

    def with_eos() -> PreTrainedTokenizerBase:
        other = fresh()
        other.eos_token = "<s>"
        return other

    words = rows[0].responses[0].text.split()
    texts = (replace(rows[0].responses[0], text=" ".join(reversed(words))), *rows[0].responses[1:])
    changed_text = (replace(rows[0], responses=texts), *rows[1:])
    moved = (replace(rows[0], prompt=rows[0].prompt + " " + words[0]), *rows[1:])
    ways = [
        (rows, fresh(), form, False),
        (rows, added(), form, False),
        (rows, templated(), form, False),
        (rows, with_eos(), form, False),
        (rows, fresh(), replace(form, max_length=63), False),
        (rows, fresh(), replace(form, truncation_side="right"), False),
        (rows, fresh(), replace(form, append_eos=False), False),
        (rows, templated(), replace(form, kind="chat"), False),
        (rows, fresh(), form, True),
        (changed_text, fresh(), form, False),
        (moved, fresh(), form, False),
        (rows[::-1], fresh(), form, False),
        (rows[:-1], fresh(), form, False),
    ]
    for number, (some, which, how, truncate) in enumerate(ways, start=1):
        for _ in range(2):
            cached = tokenize_rows(some, tokenizer=which, form=how, truncate=truncate, cache=tmp_path)
            assert same(cached, tokenize_rows(some, tokenizer=which, form=how, truncate=truncate))
            assert len(list(tmp_path.iterdir())) == number


def test_what_changes_no_id_keeps_the_key(
    rows: tuple[Row, ...], tokenizer: PreTrainedTokenizerBase, form: TextFormat, tmp_path: Path, calls: list[int]
) -> None:
    tokenize_rows(rows, tokenizer=tokenizer, form=form, cache=tmp_path)
    calls.clear()
    renamed = tuple(replace(row, id=f"other {row.id}", margin=3.0) for row in rows)
    tokenize_rows(renamed, tokenizer=tokenizer, form=form, cache=tmp_path)
    assert calls == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def another_type(path: Path) -> None:
    array = np.load(path)
    np.save(path, array.astype(np.int16))


def another_shape(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


DAMAGE = [cut, flip, another_type, another_shape, pickled, Path.unlink, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entries_are_made_again(
    rows: tuple[Row, ...],
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    tmp_path: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    right = tokenize_rows(rows, tokenizer=tokenizer, form=form)
    tokenize_rows(rows, tokenizer=tokenizer, form=form, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    for path in sorted(entry.glob("*.npy")):
        damage(path)
        caplog.clear()
        assert same(tokenize_rows(rows, tokenizer=tokenizer, form=form, cache=tmp_path), right)
        assert "are damaged and are made again" in caplog.text
        caplog.clear()
        assert same(tokenize_rows(rows, tokenizer=tokenizer, form=form, cache=tmp_path), right)
        assert "damaged" not in caplog.text
    for content in (None, "", "[]", "{}", '{"tokens": 5}'):
        sums = entry / "checksums.json"
        sums.unlink() if content is None else sums.write_text(content)
        assert same(tokenize_rows(rows, tokenizer=tokenizer, form=form, cache=tmp_path), right)
        assert set(json.loads(sums.read_text())) == {path.stem for path in entry.glob("*.npy")}


def test_writers_at_the_same_time_do_not_clash(
    rows: tuple[Row, ...], tokenizer: PreTrainedTokenizerBase, form: TextFormat, tmp_path: Path
) -> None:
    right = tokenize_rows(rows, tokenizer=tokenizer, form=form)
    with ThreadPoolExecutor(8) as pool:
        for damaged in (False, True, True):
            if damaged:
                (entry,) = tmp_path.iterdir()
                flip(entry / "tokens.npy")
            options = {"tokenizer": tokenizer, "form": form, "cache": tmp_path}
            tables = list(pool.map(lambda _, o=options: tokenize_rows(rows, **o), range(16)))
            assert all(same(table, right) for table in tables)
            assert len(list(tmp_path.iterdir())) == 1
