"""From raw records to rows: which format a source has, and what each record of it says.

The format is told by the shape of the first record, and every later record must have the same.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.data import demonstration_formats as demonstrations
from trueup.data import preference_formats as preferences
from trueup.data import scored_formats as scored
from trueup.data.fields import Fields
from trueup.data.files import Entry
from trueup.data.fingerprint import fingerprint
from trueup.data.readers import read_entries
from trueup.data.rowfile import Problem, RowFile
from trueup.data.rows import Prompt, Row
from trueup.data.transcripts import is_transcript
from trueup.data.writing import write_rows
from trueup.errors import DataError, RecipeError

__all__ = ["FORMATS", "Format", "Problem", "RowFile", "detect_format", "read_rows", "write_rows"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Format:
    """One shape of records.

    Args:
        core: Columns that every record must have.
        uses: All columns that a row can make use of.
        parse: Turns one record into a row, or says why it cannot be used.
        groups: Whether records with equal prompts become one row.
    """

    core: tuple[str, ...]
    uses: frozenset[str]
    parse: Callable[[Fields], Row | Problem]
    groups: bool = False


_ROW = preferences.ROW_FIELDS
_PAIR = preferences.PAIR_FIELDS | {"prompt"}
_COMPLETIONS = _ROW | {"instruction", "prompt", "context", "completions"}
_TRIPLE = ("prompt", "chosen", "rejected")
_SHOWN = demonstrations.DEMONSTRATION_FIELDS

FORMATS: Mapping[str, Format] = {
    "preference": Format(_TRIPLE, _PAIR, preferences.preference),
    "implicit": Format(("chosen", "rejected"), _PAIR, preferences.implicit),
    "transcript": Format(("chosen", "rejected"), _PAIR, preferences.transcript),
    "unpaired": Format(
        ("prompt", "completion", "label"),
        _ROW | {"prompt", "completion", "label", "score", "model", "features"},
        preferences.unpaired,
        groups=True,
    ),
    "responses": Format(
        ("prompt", "responses"),
        _ROW | {"responses", "prompt", "instruction", "prompt_messages"},
        scored.responses,
    ),
    "ultrafeedback": Format(("instruction", "completions"), _COMPLETIONS, scored.ultrafeedback),
    "nemo": Format(("context", "completions"), _COMPLETIONS, scored.nemo),
    "rm-robustness": Format(
        ("instruction", "response_1_text", "response_2_text", "all_scores"),
        _ROW | {"instruction", "prompt", "all_scores"},
        scored.rm_robustness,
    ),
    "rm-bench": Format(_TRIPLE, _PAIR, preferences.rm_bench),
    "reward-bench": Format(_TRIPLE, _PAIR, preferences.preference),
    "reward-bench-2": Format((*_TRIPLE, "num_correct"), _PAIR | {"num_correct"}, preferences.answer_lists),
    "prompt-completion": Format(
        ("prompt", "completion"), _SHOWN | {"prompt", "completion"}, demonstrations.prompt_completion
    ),
    "prompt-response": Format(
        ("prompt", "response"), _SHOWN | demonstrations.REPLIES | {"prompt"}, demonstrations.prompt_response
    ),
    "alpaca": Format(
        ("instruction", "output"),
        _SHOWN | demonstrations.TASKS | demonstrations.INPUTS | demonstrations.REPLIES,
        demonstrations.alpaca,
    ),
    "conversation": Format(("messages",), _SHOWN | {"messages"}, demonstrations.conversation),
    "sharegpt": Format(("conversations",), _SHOWN | {"conversations"}, demonstrations.sharegpt),
    "text": Format(("text",), _SHOWN | {"text"}, demonstrations.text),
}

_NAMES_ITS_LACK = frozenset({("transcript", "implicit"), ("unpaired", "prompt-completion")})
"""(format, other): what a record of the first looks like when something is missing or damaged."""


def read_rows(
    source: str | Path, *, format: str = "auto", split: str | None = None, limit: int | None = None
) -> RowFile:
    """Read preference data or demonstrations of any known format.

    Args:
        source: A file, a folder, or a hub id, as `read_records` takes it.
        format: A name from `FORMATS`, or "auto" to tell it by the first record.
        split: Which split of a folder or hub id.
        limit: Use no more than this many rows.

    Raises:
        DataError: The source or one of its records cannot be used; file, row and field are named.
        RecipeError: `format` or `limit` makes no sense.
    """
    if format != "auto" and format not in FORMATS:
        raise RecipeError(f"format must be auto or one of {', '.join(FORMATS)}, got {format}")
    if limit is not None and limit < 1:
        raise RecipeError(f"limit must be at least 1, got {limit}")
    reading = _Reading(source)
    records = reading.fields(read_entries(source, split=split))
    if format == "auto":
        first = next(records)
        format = _name_format(first)
        records = same_shape(itertools.chain([first], records), format)
    rows: Iterable[Row] = reading.parse(records, FORMATS[format])
    if FORMATS[format].groups:
        rows = _merge_prompts(rows)
    return reading.result(itertools.islice(rows, limit), format)


def detect_format(values: Mapping[str, Any]) -> str | None:
    """Name of the format a record is in, or None if it is in none."""
    has = {name for name, value in values.items() if value is not None}
    if scored.is_response_list(values):
        return "responses"
    if "completions" in has:
        return "nemo" if "context" in has else "ultrafeedback"
    if "response_1_text" in has:
        return "rm-robustness"
    if {"completion", "label"} <= has:
        return "unpaired"
    if {"chosen", "rejected"} <= has:
        return _detect_preference(values, has)
    return demonstrations.detect_demonstration(has)


def _detect_preference(values: Mapping[str, Any], has: set[str]) -> str:
    sides = [values["chosen"], values["rejected"]]
    if all(isinstance(side, list) and side and all(isinstance(text, str) for text in side) for side in sides):
        three_by_three = "num_correct" not in has and all(len(side) == 3 for side in sides)
        return "rm-bench" if three_by_three else "reward-bench-2"
    if "prompt" in has:
        return "reward-bench" if {"subset", "chosen_model", "rejected_model"} <= has else "preference"
    return "transcript" if all(is_transcript(side) for side in sides) else "implicit"


def _name_format(record: Fields) -> str:
    name = detect_format(record.values)
    if name is not None:
        return name
    present = sorted(name for name in map(str, record.values) if record.has(name))
    lacking = [known for known in FORMATS.values() if not set(known.core) <= set(present)]
    closest = min(lacking, key=lambda known: len(set(known.core) - set(present)) / len(known.core))
    missing = [name for name in closest.core if name not in present]
    others = "; ".join(sorted({", ".join(known.core) for known in FORMATS.values() if known is not closest}))
    raise DataError(
        f"the columns {', '.join(present)[:300] or '(none)'} make no known format",
        file=record.origin.file,
        row=record.origin.row,
        field=missing[0] if missing else None,
        expected=f"{', '.join(closest.core)} (or one of: {others})",
        cure=f"add or rename: {', '.join(missing)}" if missing else None,
    )


def same_shape(records: Iterable[Fields], name: str) -> Iterator[Fields]:
    """Pass records on as long as all have the first one's shape; the parser sees to missing fields."""
    first: Fields | None = None
    for record in records:
        first = first or record
        other = detect_format(record.values)
        expected, found = (name, _in_messages(first, name)), (other, _in_messages(record, name))
        if not _read_alike(name, other) or (other is not None and found[1] != expected[1]):
            raise DataError(
                f"mixed schemas: this row is {_describe(*found)}, but row {first.origin.row} of "
                f"{first.origin.file} is {_describe(*expected)}",
                file=record.origin.file,
                row=record.origin.row,
                expected="one schema in all rows",
                cure="put rows of different schemas in different files",
            )
        yield record


def _read_alike(name: str, other: str | None) -> bool:
    """Whether the parser of one format reads the other, or says itself what is wrong with it."""
    return other is None or FORMATS[name].parse is FORMATS[other].parse or (name, other) in _NAMES_ITS_LACK


def _in_messages(record: Fields, name: str) -> bool:
    """Whether the record's texts are chat messages; the library's own schema allows both in one file."""
    if name in {"responses", "rm-bench", "reward-bench-2"}:
        return False
    if name in {"conversation", "sharegpt"}:
        return True
    return any(isinstance(record.values.get(field), list) for field in ("prompt", "context", "chosen"))


def _describe(name: str | None, in_messages: bool) -> str:
    return f"`{name}` in chat messages" if in_messages else f"`{name}` in plain text"


def _merge_prompts(rows: Iterable[Row]) -> Iterator[Row]:
    """One row for each prompt, in the order of first appearance."""
    merged: dict[Prompt, list[Row]] = {}
    for row in rows:
        merged.setdefault(row.prompt, []).append(row)
    for group in merged.values():
        yield replace(group[0], responses=tuple(response for row in group for response in row.responses))


class _Reading:
    """What one reading of a source leaves out, counted while its records stream by."""

    def __init__(self, source: str | Path) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.ignored: set[str] = set()
        self.blank_lines = 0

    def fields(self, entries: Iterable[Entry]) -> Iterator[Fields]:
        for origin, values in entries:
            if values is None:
                self.blank_lines += 1
            else:
                yield Fields(origin, values)

    def parse(self, records: Iterable[Fields], format: Format) -> Iterator[Row]:
        for record in records:
            self.ignored.update(record.values.keys() - format.uses)
            result = format.parse(record)
            if isinstance(result, Problem):
                self.problems.append(result)
            else:
                yield result

    def result(self, rows: Iterable[Row], format: str) -> RowFile:
        named = tuple(_unique_ids(rows))
        if not named:
            first = f"; the first of {len(self.problems)} problems is at row {self.problems[0].origin.row}: "
            found = f"zero usable rows{first}{self.problems[0].reason} ({self.problems[0].detail})"
            raise DataError(found, file=self.source, cure="mend the data or name another format")
        ignored = sorted(name for name in self.ignored if not scored.RESPONSE_PART.fullmatch(name))
        if ignored:
            _LOG.info("%s: columns that are not used: %s", self.source, ", ".join(ignored))
        return RowFile(
            rows=named,
            format=format,
            problems=tuple(self.problems),
            fingerprint=fingerprint(named),
            source=str(self.source),
            ignored=tuple(ignored),
            blank_lines=self.blank_lines,
        )


def _unique_ids(rows: Iterable[Row]) -> Iterator[Row]:
    """Give a name to rows that have none, and a longer one to rows that repeat an earlier row's."""
    listed = tuple(rows)
    for row, name in zip(listed, unique_names(row.id for row in listed), strict=True):
        yield row if name == row.id else replace(row, id=name)


def unique_names(names: Iterable[str]) -> Iterator[str]:
    """The same names, with `row-N` for empty ones and a longer one for those that occurred before."""
    seen: set[str] = set()
    for index, given in enumerate(names, start=1):
        name = given or f"row-{index}"
        while name in seen:
            name = f"{name}#{index}"
        seen.add(name)
        yield name
