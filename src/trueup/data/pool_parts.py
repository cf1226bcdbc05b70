"""Parquet files of a pool: one row for each prompt and run of consecutive samples, with lists as columns.

A part is written once and never changed, so that more prompts, more samples and more rewards are only ever added.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.rows import Message, Prompt
from trueup.errors import DataError
from trueup.files import atomic_write

_PART = re.compile(r"\d{6}\.parquet")
_KEYS = ("id", "start", "count")


@dataclass(frozen=True)
class Run:
    """Consecutive samples of one prompt.

    Args:
        id: The prompt's name.
        start: Number of the first sample, counted from 0.
        count: How many samples.
        columns: A list of `count` values under each name.
        prompt: The prompt, where the part holds prompts.
        file: Where it was read.
    """

    id: str
    start: int
    count: int
    columns: Mapping[str, Sequence[Any]]
    prompt: Prompt | None = None
    file: Path | None = None


def write_part(folder: Path, runs: Sequence[Run]) -> Path:
    """Write runs as the folder's next part, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
        DataError: A text is no valid Unicode.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = max((int(path.stem) for path in part_files(folder)), default=-1) + 1
    path = folder / f"{number:06d}.parquet"
    try:
        table = pa.table(_arrays(runs))
    except UnicodeEncodeError as error:
        found = f"a response holds a lone surrogate ({error.reason}) and cannot be written"
        raise DataError(found, file=path, field="response", cure="make the policy return valid Unicode") from error
    with atomic_write(path) as handle:
        pq.write_table(table, handle, compression="zstd", write_page_checksum=True)
    return path


def _arrays(runs: Sequence[Run]) -> dict[str, Any]:
    import pyarrow as pa

    kinds = {"response": pa.string(), "tokens": pa.int32(), "finished": pa.bool_()}
    arrays: dict[str, Any] = {
        "id": pa.array([run.id for run in runs], pa.string()),
        "start": pa.array([run.start for run in runs], pa.int32()),
        "count": pa.array([run.count for run in runs], pa.int32()),
    }
    if any(run.prompt is not None for run in runs):
        message = pa.struct([("role", pa.string()), ("content", pa.string())])
        texts = [run.prompt if isinstance(run.prompt, str) else None for run in runs]
        chats = [None if isinstance(run.prompt, str) else [t._asdict() for t in run.prompt or ()] for run in runs]
        arrays["prompt"] = pa.array(texts, pa.string())
        arrays["prompt_messages"] = pa.array(chats, pa.list_(message))
    for name in runs[0].columns:
        arrays[name] = pa.array([list(run.columns[name]) for run in runs], pa.list_(kinds.get(name, pa.float64())))
    return arrays


def part_files(folder: Path) -> list[Path]:
    """Finished parts in the order in which they were written."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _PART.fullmatch(path.name))


def read_parts(folder: Path, columns: Sequence[str] | None) -> Iterator[Run]:
    """Read all runs of a folder of parts.

    Args:
        folder: The folder.
        columns: Lists to read, apart from each run's place and prompt; None reads all there are.

    Raises:
        DataError: A part is damaged, lacks a column, or holds lists of the wrong length.
    """
    for path in part_files(folder):
        yield from _read_part(path, columns)


def _read_part(path: Path, columns: Sequence[str] | None) -> Iterator[Run]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            present = file.schema_arrow.names
            names = [n for n in present if n not in (*_KEYS, "prompt", "prompt_messages")]
            names = names if columns is None else list(columns)
            _check_columns(path, present, [*_KEYS, *names])
            prompts = [name for name in ("prompt", "prompt_messages") if name in present]
            table = file.read(columns=[*_KEYS, *prompts, *names])
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        cure = "remove this file; the same command makes again what it held"
        raise DataError(f"corrupt Parquet data ({reason})", file=path, cure=cure) from error
    yield from _runs(path, table, names)


def _check_columns(path: Path, present: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(
            "there is no such column",
            file=path,
            field=missing[0],
            expected=f"one of: {', '.join(present)}",
            cure="remove this file; the same command makes again what it held",
        )


def _runs(path: Path, table: Any, names: Sequence[str]) -> Iterator[Run]:
    keys = {name: table.column(name).to_pylist() for name in _KEYS}
    held = table.column_names
    nothing: list[Any] = [None] * len(table)
    texts, chats = (table.column(n).to_pylist() if n in held else nothing for n in ("prompt", "prompt_messages"))
    lists = {name: _lists(table.column(name).combine_chunks()) for name in names}
    for row, (key, start, count) in enumerate(zip(*keys.values(), strict=True)):
        values = {name: column[row] for name, column in lists.items()}
        wrong = next((name for name, value in values.items() if len(value) != count), None)
        if wrong is not None:
            found = f"{len(values[wrong])} values for {count} samples of prompt {key!r}"
            cure = "remove this file; the same command makes again what it held"
            raise DataError(found, file=path, row=row + 1, field=wrong, cure=cure)
        yield Run(key, start, count, values, prompt=_prompt(texts[row], chats[row]), file=path)


def _prompt(text: str | None, chat: Sequence[Mapping[str, str]] | None) -> Prompt | None:
    return text if chat is None else tuple(Message(turn["role"], turn["content"]) for turn in chat)


def _lists(column: Any) -> list[Any]:
    """The lists of a column; numbers as arrays, in which what is unknown is NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type.value_type):
        return [value or [] for value in column.to_pylist()]
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return list(np.split(flat, np.cumsum(lengths, dtype=int)[:-1]))
