import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trueup.data.files import json_type, read_file
from trueup.errors import DataError

RECORDS = [{"a": 1, "b": "één"}, {"a": 2, "b": "zwei"}]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()


def contents(path: Path) -> list[object]:
    return [record for _, record in read_file(path)]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def as_parquet(tmp_path: Path) -> bytes:
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "table", write_page_checksum=True)
    return (tmp_path / "table").read_bytes()


@pytest.mark.parametrize("name", ["plain.jsonl", "wrong-name.parquet", "no-name"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.rstrip(),
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        json.dumps(RECORDS).encode(),
        json.dumps(RECORDS, indent=2).encode(),
        b"\n" + json.dumps(RECORDS).encode() + b"\n",
    ],
    ids=["lines", "no-final-newline", "byte-order-mark", "crlf", "array", "indented-array", "blank-before-array"],
)
def test_same_records_whatever_the_wrapping_and_the_name(tmp_path, name, pack, content):
    records = [record for record in contents(write(tmp_path / name, pack(content))) if record is not None]
    assert records == RECORDS


def test_parquet_is_told_by_content(tmp_path):
    entries = list(read_file(write(tmp_path / "table.jsonl", as_parquet(tmp_path))))
    assert [record for _, record in entries] == RECORDS
    assert [origin.row for origin, _ in entries] == [1, 2]


def test_blank_lines_are_shown_and_rows_count_as_in_an_editor(tmp_path):
    path = write(tmp_path / "f", b'{"a": 1}\n\n  \t\r\n{"a": 2}\n')
    assert [(origin.row, record) for origin, record in read_file(path)] == [
        (1, {"a": 1}),
        (2, None),
        (3, None),
        (4, {"a": 2}),
    ]


def test_a_line_of_one_megabyte(tmp_path):
    record = {"a": "x" * 2**20}
    assert contents(write(tmp_path / "f", json.dumps(record).encode() + b"\n" + LINES)) == [record, *RECORDS]


def test_reading_streams(tmp_path):
    path = write(tmp_path / "f", LINES + b"not json\n")
    entries = read_file(path)
    assert next(entries)[1] == RECORDS[0]
    assert next(entries)[1] == RECORDS[1]
    with pytest.raises(DataError):
        next(entries)


@pytest.mark.parametrize(
    ("content", "row", "words"),
    [
        (b"", None, "zero usable rows"),
        (LINES + b'{"a": \n', 3, "column 6"),
        (LINES + b"3\n", 3, "JSON number"),
        (LINES + b'"text"\n', 3, "JSON string"),
        (LINES + b"[1]\n", 3, "JSON list"),
        (b'[{"a": 1}, 7]', 2, "JSON number"),
        (b'[{"a": 1},\n {"a" 2}]', None, "line 2, column 7"),
        (LINES + b'{"b": "caf\xe9"}\n', 3, "byte 0xe9 at position 11 of the row is not UTF-8"),
        (b'[{"b":\n "caf\xe9"}]', None, "byte 0xe9 at position 13 of the file is not UTF-8"),
        (LINES.decode().encode("utf-16"), None, "UTF-16"),
        (LINES + b'{"b": "\\ud800"}\n', 3, "no character"),
        (b"[" * 100_000, None, "nested too deeply"),
        (LINES + b'{"a": ' + b"[" * 100_000 + b"\n", 3, "nested too deeply"),
        (LINES + b'{"a": ' + b"1" * 5000 + b"}\n", 3, "number cannot be read"),
        (b"PK\x03\x04whatever", None, "zip"),
        (b"\x28\xb5\x2f\xfdwhatever", None, "Zstandard"),
        (b"PAR1 and nothing more", 1, "corrupt Parquet"),
        (b"\x1f\x8bnonsense", 1, "corrupt gzip"),
        (gzip.compress(LINES, mtime=0) + b"trailing nonsense", 3, "corrupt gzip"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, content, row, words):
    path = write(tmp_path / "bad.jsonl", content)
    with pytest.raises(DataError, match=words) as caught:
        contents(path)
    assert caught.value.file == path
    assert caught.value.row == row


def test_truncated_gzip(tmp_path):
    whole = gzip.compress(b"".join(json.dumps({"a": n}).encode() + b"\n" for n in range(2000)))
    path = write(tmp_path / "cut.jsonl.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"end early, after [0-9]+ whole rows") as caught:
        contents(path)
    assert caught.value.row > 1


def test_flipped_bit_in_gzip(tmp_path):
    whole = bytearray(gzip.compress(LINES * 50))
    whole[-5] ^= 1
    with pytest.raises(DataError, match="corrupt gzip"):
        contents(write(tmp_path / "f", bytes(whole)))


def test_flipped_bit_in_parquet(tmp_path):
    whole = bytearray(as_parquet(tmp_path))
    whole[40] ^= 1
    with pytest.raises(DataError, match="corrupt Parquet"):
        contents(write(tmp_path / "f", bytes(whole)))


def test_truncated_parquet(tmp_path):
    whole = as_parquet(tmp_path)
    with pytest.raises(DataError, match="corrupt Parquet"):
        contents(write(tmp_path / "f", whole[:-20]))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        contents(tmp_path / "absent")


def test_json_type_names():
    values = [None, True, 1, 1.5, "", [], (), {}, b""]
    names = ["null", "boolean", "number", "number", "string", "list", "list", "object", "bytes"]
    assert [json_type(value) for value in values] == names
