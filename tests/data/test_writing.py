import math
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from trueup.data.formats import read_rows, write_rows
from trueup.data.rows import Origin
from trueup.errors import DataError, OutputError

from .samples import pair_row, row_lists, scored_row

ENDINGS = [".jsonl", ".jsonl.gz", ".parquet"]


def without_origins(rows):
    return [replace(row, origin=Origin("", 0)) for row in rows]


@pytest.mark.parametrize("ending", ENDINGS)
@given(rows=row_lists())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back_exactly(tmp_path, ending, rows):
    path = tmp_path / f"rows{ending}"
    write_rows(rows, path)
    file = read_rows(path)
    assert without_origins(file.rows) == without_origins(rows)
    assert (file.format, file.problems, file.ignored) == ("responses", (), ())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_rows_give_equal_bytes(tmp_path, ending):
    rows = [pair_row("p", "a", "b"), scored_row(1.0, None, number=2)]
    for name in ("one", "other"):
        write_rows(iter(rows), tmp_path / f"{name}{ending}")
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"other{ending}").read_bytes()


@pytest.mark.parametrize("name", ["hh-rlhf-harmless/test", "rm-bench-chat/chat", "summeval-op/summeval-op"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_real_rows_come_back(tmp_path, shared_data, name, ending):
    file = read_rows(shared_data / f"{name}.jsonl.gz")
    write_rows(file.rows, tmp_path / f"rows{ending}")
    again = read_rows(tmp_path / f"rows{ending}")
    assert again.fingerprint == file.fingerprint
    assert without_origins(again.rows) == without_origins(file.rows)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("row", [scored_row(math.nan, 1.0), scored_row(math.inf), pair_row("\ud800", "a", "b")])
def test_what_no_file_can_hold_is_refused_and_the_old_file_kept(tmp_path, ending, row):
    path = tmp_path / f"rows{ending}"
    write_rows([pair_row("p", "a", "b")], path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="row 'r1' cannot be written"):
        write_rows([pair_row("p", "a", "b"), row], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_unwritable_places(tmp_path, ending):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match="earlier results are untouched"):
        write_rows([pair_row("p", "a", "b")], tmp_path / "file" / f"rows{ending}")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_unknown_endings(tmp_path):
    with pytest.raises(OutputError, match=r"name it .jsonl, .jsonl.gz or .parquet"):
        write_rows([], tmp_path / "rows.csv")
