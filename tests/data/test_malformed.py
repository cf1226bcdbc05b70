"""No input whatever gives anything but rows or one clear error."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.data.checks import check_rows
from trueup.data.formats import FORMATS, read_rows
from trueup.data.rowfile import RowFile
from trueup.data.selection import select
from trueup.errors import DataError

from .test_formats import EXAMPLES

GENERATED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({name for record in EXAMPLES.values() for name in record} | {"margin", "features"}))
PACKS = st.sampled_from([bytes, gzip.compress])
FORMAT_NAMES = st.sampled_from(["auto", *FORMATS])


def rows_or_error(path: Path, content: bytes, *, format: str = "auto") -> RowFile | DataError:
    """Read, and use what was read; anything but a `DataError` fails the test."""
    path.write_bytes(content)
    try:
        file = read_rows(path, format=format)
    except DataError as error:
        result = error
    else:
        check_rows(file).render()
        select(file.rows, problems=file.problems)
        return file
    assert str(path) in str(result)
    assert len(str(result)) < 2000
    return result


def lines(records) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@given(content=st.binary(max_size=200), pack=PACKS)
@GENERATED
def test_random_bytes(tmp_path, content, pack):
    rows_or_error(tmp_path / "f", pack(content))


@given(content=st.text(max_size=200), pack=PACKS)
@GENERATED
def test_random_text(tmp_path, content, pack):
    rows_or_error(tmp_path / "f", pack(content.encode("utf-8", "surrogatepass")))


@given(values=st.lists(JSON_VALUES, max_size=4), as_array=st.booleans())
@GENERATED
def test_random_json(tmp_path, values, as_array):
    content = json.dumps(values).encode() if as_array else lines(values)
    rows_or_error(tmp_path / "f", content)


@given(records=st.lists(st.dictionaries(NAMES, JSON_VALUES, max_size=6), min_size=1, max_size=3), format=FORMAT_NAMES)
@GENERATED
def test_right_names_with_random_values(tmp_path, records, format):
    rows_or_error(tmp_path / "f", lines(records), format=format)


@st.composite
def damaged_records(draw: st.DrawFn) -> dict:
    """A valid record in which one value somewhere has become something else, or has gone."""
    record = json.loads(json.dumps(EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))]))
    place, key = record, draw(st.sampled_from(sorted(record)))
    while isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    if draw(st.booleans()) or isinstance(place, list):
        place[key] = draw(JSON_VALUES)
    else:
        del place[key]
    return record


@given(good=st.sampled_from(sorted(EXAMPLES)), bad=damaged_records(), format=FORMAT_NAMES, first=st.booleans())
@GENERATED
def test_wrong_types_missing_fields_and_mixed_schemas(tmp_path, good, bad, format, first):
    records = [bad, EXAMPLES[good]] if first else [EXAMPLES[good], bad]
    rows_or_error(tmp_path / "f", lines(records), format=format)


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("valid") / "table.parquet"
    records = [{**EXAMPLES["preference"], "prompt": f"prompt {number}"} for number in range(30)]
    pq.write_table(pa.Table.from_pylist(records), path, write_page_checksum=True)
    return {
        "lines": lines(records),
        "gzip": gzip.compress(lines(records)),
        "array": json.dumps(records).encode(),
        "parquet": path.read_bytes(),
    }


@pytest.mark.parametrize("kind", ["lines", "gzip", "array", "parquet"])
@given(share=st.floats(0, 1, exclude_max=True))
@GENERATED
def test_truncated_files(tmp_path, valid_files, kind, share):
    whole = valid_files[kind]
    cut = whole[: int(share * len(whole))]
    result = rows_or_error(tmp_path / "f", cut)
    at_line_end = kind == "lines" and (cut.endswith(b"}") or cut.endswith(b"}\n"))
    assert isinstance(result, RowFile) == (at_line_end and bool(cut))


@pytest.mark.parametrize("kind", ["lines", "gzip", "array", "parquet"])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@GENERATED
def test_flipped_bits(tmp_path, valid_files, kind, place, bit):
    content = bytearray(valid_files[kind])
    content[int(place * len(content))] ^= 1 << bit
    rows_or_error(tmp_path / "f", bytes(content))


@given(columns=st.dictionaries(NAMES, st.lists(JSON_VALUES, min_size=2, max_size=2), min_size=1, max_size=5))
@GENERATED
def test_parquet_with_random_columns(tmp_path, columns):
    try:
        table = pa.table(columns)
        pq.write_table(table, tmp_path / "made")
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return
    rows_or_error(tmp_path / "f", (tmp_path / "made").read_bytes())
