"""What was seen of a policy while it was optimised: the same held-out prompts, answered again every so many steps.

A run writes one `WatchedPoint` a line to `watch.jsonl`; `Watched` is the whole history as arrays, and what stop rules
and reports read. A log of another framework is a history of one prompt and one sample, as it holds nothing but means.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trueup.errors import DataError
from trueup.files import output_errors, write_text

Array = np.ndarray
Table = tuple[tuple[float, ...], ...]
Values = Float[Array, "points prompts samples"]
SERIES = ("proxy", "gold", "kl", "tokens", "ended")


@dataclass(frozen=True, kw_only=True)
class WatchedPoint:
    """One step of a run, on the watched prompts.

    Args:
        step: Optimiser steps done; 0 is the initial policy.
        prompts: The prompts as text, the same at every step.
        responses: Responses to each, equally many.
        proxy: What is optimised, for each response.
        gold: What judges; None where nothing does.
        kl: Log-probability of each response under the policy minus that under the initial one, in nats, summed over its
            tokens; None where it is not known.
        tokens: Length of each response in tokens.
        ended: 1 where the policy ended the response itself, 0 where it was cut.
    """

    step: int
    prompts: tuple[str, ...]
    responses: tuple[tuple[str, ...], ...]
    proxy: Table
    gold: Table | None
    kl: Table | None
    tokens: Table
    ended: Table


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The history of a run. Single values may be NaN, where a log lacks them at some steps.

    Args:
        steps: Optimiser steps, increasing.
        proxy: What is optimised; this and the next four are None where nothing is known of them.
        gold: What judges.
        kl: Log-ratio of each response to the initial policy, nats, summed over its tokens.
        tokens: Length of each response.
        ended: Whether the policy ended it itself.
        prompts: Texts of the prompts; empty for a log that holds none.
        responses: Texts of the responses by point and prompt.
    """

    steps: Int[Array, " points"]
    proxy: Values | None = None
    gold: Values | None = None
    kl: Values | None = None
    tokens: Values | None = None
    ended: Values | None = None
    prompts: tuple[str, ...] = ()
    responses: tuple[tuple[tuple[str, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        if np.any(np.diff(self.steps) <= 0):
            raise DataError("steps do not increase", field="step", expected="each step once, in order")
        shapes = {np.shape(value) for name in SERIES if (value := getattr(self, name)) is not None}
        if len(shapes) > 1 or any(shape[0] != len(self.steps) for shape in shapes):
            raise DataError(f"shapes {sorted(shapes)} for {len(self.steps)} steps", expected="one shape for all series")

    def __len__(self) -> int:
        return len(self.steps)

    def by_prompt(self, name: str) -> Float[Array, "points prompts"] | None:
        """Mean of a series over the samples of each prompt; None where it is not known."""
        values = getattr(self, name)
        return None if values is None else np.asarray(values, np.float64).mean(axis=2)

    @property
    def mean_kl(self) -> Float[Array, " points"] | None:
        """Mean log-ratio at each point in nats, as measured: noise can make it negative. 0 at step 0."""
        values = self.by_prompt("kl")
        return None if values is None else np.where(self.steps == 0, 0.0, values.mean(axis=1))

    @property
    def distance(self) -> Float[Array, " points"] | None:
        """Square root of the mean KL, clipped at 0 once it is averaged; sqrt(nats)."""
        kl = self.mean_kl
        return None if kl is None else np.sqrt(np.maximum(kl, 0.0))

    def take(self, points: Int[Array, " kept"]) -> "Watched":
        """The history at some of its points."""
        series = {name: None if (v := getattr(self, name)) is None else v[points] for name in SERIES}
        texts = tuple(self.responses[k] for k in points) if self.responses else ()
        return Watched(steps=self.steps[points], prompts=self.prompts, responses=texts, **series)


def history(points: Sequence[WatchedPoint]) -> Watched:
    """The points of a run as one record.

    Raises:
        DataError: The prompts or the numbers of responses differ between points.
    """
    series = {}
    for name in SERIES:
        tables = [getattr(point, name) for point in points]
        known = next((table for table in tables if table is not None), None)
        if known is not None:
            nothing = np.full(np.shape(known), np.nan)
            series[name] = np.stack([nothing if table is None else np.asarray(table, np.float64) for table in tables])
    return Watched(
        steps=np.array([point.step for point in points], np.int64),
        prompts=points[0].prompts if points else (),
        responses=tuple(point.responses for point in points),
        **series,
    )


def append_point(path: Path, point: WatchedPoint) -> None:
    """Add one line to a `watch.jsonl`."""
    with output_errors(path), open(path, "a", encoding="utf-8") as handle:
        handle.write(_line(point))


def write_points(path: Path, points: Sequence[WatchedPoint]) -> None:
    """Write a `watch.jsonl` anew."""
    write_text(path, "".join(map(_line, points)))


def _line(point: WatchedPoint) -> str:
    return json.dumps(asdict(point)) + "\n"


def read_points(path: Path) -> tuple[WatchedPoint, ...]:
    """Read a `watch.jsonl`; a last line that is still being written is left out.

    Raises:
        DataError: The file cannot be read, or a line is not a point of the same prompts.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"cannot be read ({reason})", file=path, expected="the record of a watched run") from error
    points: list[WatchedPoint] = []
    for row, line in enumerate(lines[:-1], start=1):
        if line.strip():
            points.append(_point(line, file=path, row=row))
            _check_like(points[0], points[-1], file=path, row=row)
    return tuple(points)


def _point(line: str, *, file: Path, row: int) -> WatchedPoint:
    try:
        values: dict[str, Any] = json.loads(line)
        tables = {name: _table(values[name]) for name in SERIES}
        missing = next((name for name in ("proxy", "tokens", "ended") if tables[name] is None), None)
        if missing is not None:
            raise DataError("no values", file=file, row=row, field=missing, expected="one for each response")
        responses = tuple(tuple(str(text) for text in group) for group in values["responses"])
        prompts = tuple(str(prompt) for prompt in values["prompts"])
        return WatchedPoint(step=int(values["step"]), prompts=prompts, responses=responses, **tables)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        found = f"no field {error}" if isinstance(error, KeyError) else f"not a watched point ({error})"
        cure = "a damaged line can be deleted: the others stay valid"
        raise DataError(found, file=file, row=row, cure=cure) from error


def _table(values: Any) -> Table | None:
    return None if values is None else tuple(tuple(float(value) for value in row) for row in values)


def _check_like(first: WatchedPoint, point: WatchedPoint, *, file: Path, row: int) -> None:
    if point.prompts != first.prompts:
        raise DataError(
            "other prompts than in the first line", file=file, row=row, field="prompts", expected="the same each time"
        )
    shape = [len(group) for group in first.responses]
    if not shape or len(set(shape)) > 1 or shape[0] == 0 or len(shape) != len(first.prompts):
        raise DataError(f"{shape} responses", file=file, row=row, field="responses", expected="equally many, 1 or more")
    for name in ("responses", *SERIES):
        table = getattr(point, name)
        if table is not None and [len(group) for group in table] != shape:
            raise DataError("another shape", file=file, row=row, field=name, expected=f"{len(shape)} x {shape[0]}")
        if name not in ("responses", "gold") and table and not all(math.isfinite(v) for group in table for v in group):
            raise DataError("a value is not finite", file=file, row=row, field=name, expected="finite numbers")
