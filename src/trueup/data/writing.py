"""Rows to files, in the library's own schema, which `read_rows` reads back exactly."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from trueup.data.fingerprint import as_record
from trueup.data.rows import Row
from trueup.errors import DataError, OutputError
from trueup.files import atomic_write


def write_rows(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows whole or not at all, as `.jsonl`, `.jsonl.gz` or `.parquet` by the name's ending.

    Each record holds `id`, `prompt`, `responses: [{text, label, score, source, features}]`, `subset` and `margin`;
    absent fields are left out. Equal rows give equal bytes.

    Raises:
        OutputError: The file cannot be written.
        DataError: A row holds what no file can hold, such as a score that is not finite.
    """
    name = str(path)
    listed = tuple(rows)
    check_ending(path)
    with atomic_write(path) as handle:
        if name.endswith(".parquet"):
            _write_parquet(listed, handle)
        elif name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as zipped:
                zipped.writelines(map(_line, listed))
        else:
            handle.writelines(map(_line, listed))


def check_ending(path: str | Path) -> None:
    """Stop where a name does not say which kind of file to write.

    Raises:
        OutputError: Its ending is none of `.jsonl`, `.jsonl.gz` and `.parquet`.
    """
    if not str(path).endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise OutputError(f"{path} has no known ending; name it .jsonl, .jsonl.gz or .parquet")


def _line(row: Row) -> bytes:
    try:
        return json.dumps(as_record(row), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except ValueError as error:
        found = f"row {row.id!r} cannot be written ({error})"
        raise DataError(found, file=row.origin.file, row=row.origin.row, expected="finite numbers") from error


def _write_parquet(rows: Sequence[Row], handle: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    response = pa.struct(
        [
            ("text", pa.string()),
            ("label", pa.bool_()),
            ("score", pa.float64()),
            ("source", pa.string()),
            ("features", pa.map_(pa.string(), pa.float64())),
        ]
    )
    columns = {
        "id": pa.string(),
        "prompt": pa.string(),
        "prompt_messages": pa.list_(message),
        "responses": pa.list_(response),
        "subset": pa.string(),
        "margin": pa.float64(),
    }
    records = [_flat_record(row) for row in rows]
    data = {name: pa.array([record.get(name) for record in records], type=kind) for name, kind in columns.items()}
    pq.write_table(pa.table(data), handle, compression="zstd", write_page_checksum=True)


def _flat_record(row: Row) -> dict[str, Any]:
    """A record for typed columns: chat prompts in a column of their own, features as a list of pairs."""
    _line(row)
    record = as_record(row)
    if not isinstance(record["prompt"], str):
        record["prompt_messages"] = record.pop("prompt")
    for answer in record["responses"]:
        if "features" in answer:
            answer["features"] = list(answer["features"].items())
    return record
