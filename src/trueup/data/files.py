"""One file of records: JSONL, a JSON array or Parquet, plain or gzipped, told apart by content."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trueup.data.rows import Origin
from trueup.errors import DataError

Record = dict[str, Any]
Entry = tuple[Origin, Record | None]
"""A place and the record found there, or None for a blank line."""

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_CONTENT = {
    b"\x28\xb5\x2f\xfd": ("Zstandard-compressed data", "decompress it with `zstd -d`"),
    b"\xfd7zXZ\x00": ("xz-compressed data", "decompress it with `xz -d`"),
    b"BZh": ("bzip2-compressed data", "decompress it with `bzip2 -d`"),
    b"PK\x03\x04": ("a zip archive", "unpack it and name the file inside"),
    b"ARROW1": ("an Arrow IPC file", "name the dataset folder that holds it, or save it as Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "name the dataset folder that holds it, or save it as Parquet"),
    b"\xff\xfe": ("UTF-16 text", "convert it with `iconv -f utf-16 -t utf-8`"),
    b"\xfe\xff": ("UTF-16 text", "convert it with `iconv -f utf-16 -t utf-8`"),
}
_EXPECTED_CONTENT = "JSONL, JSONL.gz, a JSON array or Parquet"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_file(path: Path) -> Iterator[Entry]:
    """Yield the records of one file in order, with None for each blank line.

    Raises:
        DataError: The file cannot be opened, is damaged, or holds something else than records.
    """
    head = _head(path)
    if not head:
        raise DataError("the file is empty: zero usable rows", file=path, cure="check how it was made")
    for magic, (content, cure) in _OTHER_CONTENT.items():
        if head.startswith(magic):
            raise DataError(f"found {content}", file=path, expected=_EXPECTED_CONTENT, cure=cure)
    if head.startswith(_PARQUET):
        return _parquet_entries(path)
    return _text_entries(path, _lines(path, zipped=head.startswith(_GZIP)))


def _head(path: Path) -> bytes:
    """First bytes of a file, enough to tell what it is."""
    try:
        with path.open("rb") as handle:
            return handle.read(8)
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror or error})", file=path) from error


def _lines(path: Path, *, zipped: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (row number, line) while holding one line in memory."""
    row = 0
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as handle:
            for row, line in enumerate(handle, start=1):
                yield row, line.removeprefix(_BYTE_ORDER_MARK) if row == 1 else line
    except EOFError as error:
        found = f"the gzip data end early, after {row} whole rows"
        raise DataError(found, file=path, row=row + 1, cure="copy or download the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        found = f"corrupt gzip data ({error})"
        raise DataError(found, file=path, row=row + 1, cure="copy or download the file again") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=path, row=row + 1) from error


def _text_entries(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Entry]:
    """Tell JSONL from a JSON array by the first character that is not blank."""
    array_possible = True
    for row, line in lines:
        content = line.strip()
        if not content:
            yield Origin(str(path), row), None
        elif array_possible and content.startswith(b"["):
            yield from _array_entries(path, content, (rest for _, rest in lines))
        else:
            array_possible = False
            yield (
                Origin(str(path), row),
                _as_record(_loads(_decode(content, path, row), path, row), path, row),
            )


def _array_entries(path: Path, first: bytes, rest: Iterable[bytes]) -> Iterator[Entry]:
    content = b"\n".join([first, *(line.rstrip(b"\n") for line in rest)])
    items = _loads(_decode(content, path, None), path, None)
    for row, item in enumerate(items, start=1):
        yield Origin(str(path), row), _as_record(item, path, row)


def _decode(content: bytes, path: Path, row: int | None) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        unit = "row" if row is not None else "file"
        raise DataError(
            f"byte 0x{content[error.start]:02x} at position {error.start + 1} of the {unit} is not UTF-8",
            file=path,
            row=row,
            expected="UTF-8 text",
            cure="convert it, for example with `iconv -f latin1 -t utf-8`",
        ) from error


def _loads(text: str, path: Path, row: int | None) -> Any:
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if row is not None else f"line {error.lineno}, column {error.colno}"
        cure = "write one JSON object a line, or one JSON array"
        raise DataError(f"invalid JSON at {place} ({error.msg})", file=path, row=row, cure=cure) from error
    except RecursionError as error:
        raise DataError("JSON is nested too deeply", file=path, row=row) from error
    except UnicodeEncodeError as error:
        found = "an escape such as \\ud800 stands alone and is no character"
        raise DataError(found, file=path, row=row, cure="write the character in full") from error
    except ValueError as error:
        raise DataError(f"a number cannot be read ({error})", file=path, row=row) from error
    return value


def _as_record(value: object, path: Path, row: int) -> Record:
    if isinstance(value, dict):
        return value
    found = f"the record is a JSON {json_type(value)}"
    raise DataError(found, file=path, row=row, expected="a JSON object", cure='write {"field": value, ...}')


def json_type(value: object) -> str:
    """Name of a value's type in the words of JSON."""
    names = {
        type(None): "null",
        bool: "boolean",
        int: "number",
        float: "number",
        str: "string",
        dict: "object",
    }
    return names.get(type(value)) or ("list" if isinstance(value, (list, tuple)) else type(value).__name__)


def _parquet_entries(path: Path) -> Iterator[Entry]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as table:
            for batch in table.iter_batches(batch_size=256):
                for record in batch.to_pylist():
                    row += 1
                    yield Origin(str(path), row), record
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        cure = "copy or download the file again"
        raise DataError(f"corrupt Parquet data ({reason})", file=path, row=row + 1, cure=cure) from error
