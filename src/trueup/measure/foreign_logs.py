"""Logs of other frameworks, read into the history that rules and reports use; and followed while they grow.

Read are `trainer_state.json` of transformers and TRL (its `log_history`), and files of one JSON record a line, flat or
with the metrics under `data` as verl's file logger writes them. A log holds means, so its history has one prompt and
one sample, and no interval can be made of it.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from trueup.data.watched import SERIES, Watched
from trueup.errors import DataError, RecipeError
from trueup.measure.log_dialects import Dialect, Quantity, dialect_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogPoint:
    """What one step of a log says, in our names and units."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunLog:
    """A log as points.

    Args:
        points: One for each step, in order.
        dialect: Whose names it uses.
        notes: What a reader should know of the numbers.
    """

    points: tuple[LogPoint, ...]
    dialect: str
    notes: tuple[str, ...] = ()

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one quantity, where it is known."""
        known = [(point.step, point.values[name]) for point in self.points if name in point.values]
        return [step for step, _ in known], [value for _, value in known]

    def watched(self) -> Watched:
        """The history: one prompt, one sample; NaN where a step lacks a value.

        A step at which neither reward nor KL is known says nothing of optimisation and is left out.
        """
        kept = [point for point in self.points if {"proxy", "gold", "kl"} & set(point.values)]
        series: dict[str, Any] = {
            name: np.array([point.values.get(name, math.nan) for point in kept], np.float64)[:, None, None]
            for name in SERIES
            if any(name in point.values for point in kept)
        }
        return Watched(steps=np.array([point.step for point in kept], np.int64), **series)


def read_log(path: str | Path, *, dialect: str = "auto") -> RunLog:
    """Read the log of a run.

    Args:
        path: A `trainer_state.json`, a file of JSON lines, or a folder that holds either.
        dialect: Whose names it uses: trueup, verl, trl-ppo, openrlhf, trl; told from the names by default.

    Raises:
        DataError: There is no such file, it cannot be read, or it holds nothing of an online run.
        RecipeError: The dialect cannot be told.
    """
    place = _file(Path(path))
    records = _state(place) if place.suffix == ".json" else _lines(place)
    names = {name for record in records for name in record}
    try:
        known = dialect_of(names, dialect)
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from error
    points = _merged(point for record in records if (point := log_point(record, known)) is not None)
    if not any({"proxy", "gold", "kl"} & set(point.values) for point in points):
        wanted = [*known.names.get("proxy", ()), *known.names.get("kl", ())]
        raise DataError("no reward and no KL", file=place, expected=f"steps with {', '.join(wanted)}")
    return RunLog(points, known.name, _notes(known, points))


def _file(path: Path) -> Path:
    if path.is_dir():
        inside = [path / name for name in ("metrics.jsonl", "trainer_state.json")]
        inside += sorted(path.glob("checkpoint-*/trainer_state.json"), key=lambda file: _number(file.parent.name))[::-1]
        found = next((file for file in inside if file.is_file()), None)
        if found is None:
            raise DataError(
                "no log in this folder",
                file=path,
                expected="metrics.jsonl or trainer_state.json",
                cure="name the log file itself",
            )
        return found
    if not path.is_file():
        raise DataError("no such file or folder", file=path, cure="name a run folder or a log file")
    return path


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"cannot be read ({reason})", file=path) from error


def _state(path: Path) -> list[Mapping[str, Any]]:
    try:
        values = json.loads(_text(path))
        history = values["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        cure = "a log of one record a line ends in .jsonl"
        raise DataError("no log_history", file=path, expected="a trainer_state.json", cure=cure) from error
    return [record for record in history if isinstance(record, Mapping)]


def _lines(path: Path) -> list[Mapping[str, Any]]:
    *lines, last = _text(path).split("\n")
    records = [_record(line, file=path, row=row) for row, line in enumerate(lines, start=1) if line.strip()]
    if last.strip():
        try:
            records.append(_record(last, file=path, row=len(lines) + 1))
        except DataError:
            logger.info("%s: the last line is not finished and is left out", path)
    return records


def _record(line: str, *, file: Path, row: int) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        cure = "delete the damaged line: the others stay valid"
        raise DataError(f"not JSON ({error})", file=file, row=row, cure=cure) from error
    if not isinstance(record, Mapping):
        raise DataError(f"a {type(record).__name__}", file=file, row=row, expected="one record of metrics a line")
    inner = record.get("data")
    return {**inner, "step": record.get("step")} if isinstance(inner, Mapping) else record


def log_point(record: Mapping[str, Any], dialect: Dialect) -> LogPoint | None:
    """One record in our names and units; None where it states no step."""
    step = next((value for name in dialect.steps if (value := _finite(record.get(name))) is not None), None)
    if step is None:
        return None
    values: dict[str, float] = {}
    for quantity in get_args(Quantity):
        found = next((v for name in dialect.names.get(quantity, ()) if (v := _value(record, name)) is not None), None)
        if found is not None:
            values[quantity] = found
    if dialect.kl_unit == "token" and "kl" in values:
        per_token = values.pop("kl")
        if "tokens" in values:
            values["kl"] = per_token * values["tokens"]
    return LogPoint(int(step), values)


def _value(record: Mapping[str, Any], name: str) -> float | None:
    """A metric; one whose name begins with `!` is a share to be taken from 1."""
    value = _finite(record.get(name.removeprefix("!")))
    return 1 - value if value is not None and name.startswith("!") else value


def _finite(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _merged(points: Iterable[LogPoint]) -> tuple[LogPoint, ...]:
    """One point a step, in order; of what is logged twice the later counts, as after a restart."""
    found: dict[int, LogPoint] = {}
    for point in points:
        before = found.get(point.step)
        found[point.step] = point if before is None else replace(before, values={**before.values, **point.values})
    return tuple(found[step] for step in sorted(found))


def _notes(dialect: Dialect, points: Iterable[LogPoint]) -> tuple[str, ...]:
    if dialect.kl_unit == "response":
        return ()
    if any("kl" in point.values for point in points):
        return ("KL of whole responses is the logged KL of a token times the mean length",)
    return ("KL of whole responses is not known: the log has it by the token, or not at all, and lacks lengths",)


def follow(
    path: str | Path, *, poll: float = 1.0, ended: Callable[[], bool] = lambda: False
) -> Iterator[Mapping[str, Any]]:
    """Records of a growing file of JSON lines, those already there first, then each once its line is complete.

    A file that does not exist yet is waited for; one that becomes shorter, or is replaced, is read from its start.

    Args:
        path: The file.
        poll: Seconds between looks.
        ended: Asked after each look at which nothing new was there; True ends the iteration.

    Raises:
        DataError: A complete line is not a record.
    """
    place, rest, offset, row, inode = Path(path), b"", 0, 0, None
    while True:
        new, state = _grown(place, offset, inode)
        if state is not None and (state[0] != inode or state[1] < offset):
            rest, offset, row, inode = b"", 0, 0, state[0]
            new, state = _grown(place, offset, inode)
        offset += len(new)
        *lines, rest = (rest + new).split(b"\n")
        for line in lines:
            row += 1
            if line.strip():
                yield _record(line.decode("utf-8", "replace"), file=place, row=row)
        if not new:
            if ended():
                return
            time.sleep(poll)


def _grown(path: Path, offset: int, inode: int | None) -> tuple[bytes, tuple[int, int] | None]:
    """What lies behind an offset, with the file's number and size; nothing of another file than before."""
    try:
        with path.open("rb") as handle:
            state = path.stat()
            if state.st_ino != inode or state.st_size < offset:
                return b"", (state.st_ino, state.st_size)
            handle.seek(offset)
            return handle.read(), (state.st_ino, state.st_size)
    except FileNotFoundError:
        return b"", None


def follow_points(
    path: str | Path, *, dialect: str, poll: float = 1.0, ended: Callable[[], bool] = lambda: False
) -> Iterator[LogPoint]:
    """Points of a growing log, in our names and units; records without a step are passed over.

    Args:
        path: The file.
        dialect: Whose names it uses.
        poll: Seconds between looks.
        ended: See `follow`.
    """
    known = dialect_of((), dialect)
    for record in follow(path, poll=poll, ended=ended):
        point = log_point(record, known)
        if point is not None and point.values:
            yield point
