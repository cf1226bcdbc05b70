from dataclasses import replace

from hypothesis import given, settings

from trueup.data.checks import check_rows
from trueup.data.fingerprint import fingerprint
from trueup.data.rowfile import RowFile

from .samples import pair_row, row_lists, scored_row


def rendered(*rows, **options) -> str:
    file = RowFile(rows=rows, format="responses", problems=(), fingerprint=fingerprint(rows), source="data.jsonl")
    return check_rows(file, **options).render()


def test_what_a_reader_sees():
    rows = [pair_row("prompt", "a longer one", "short", number=number) for number in range(1, 1201)]
    rows[0] = replace(rows[0], subset="chat\nor so")
    text = rendered(*rows, max_length=10)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("data report: data.jsonl\n")
    assert ["rows", "1,200"] in lines
    assert ["length", "in", "characters", "mean", "min", "p5", "median", "p95", "p99", "max"] in lines
    assert ["response", "8", "5", "5", "8", "12", "12", "12"] in lines
    assert "longer response wins                 100.0% of 1,200 pairs (0 are equally long)" in text
    assert ["subset", "1", "chat", "or", "so"] in lines
    assert ["longer", "than", "10", "2,400", "branches", "1,", "2,", "3,", "4,", "5,", "..."] in lines
    assert ["duplicated", "pairs", "1,199", "pairs", "2,", "3,", "4,", "5,", "6,", "..."] in lines


def test_long_lists_of_sources_are_cut():
    text = rendered(scored_row(*range(20)))
    assert text.count("writer ") == 12
    assert "... and 8 more" in text


def test_clean_data_say_so():
    assert "no problems found" in rendered(pair_row("p", "a", "bb"))
    assert "(a note, no problem)" in rendered(scored_row(1.0, 1.0, 2.0))
    assert "no pairs of unequal length" in rendered(pair_row("p", "a", "b"))


@given(row_lists())
@settings(deadline=None)
def test_any_rows_can_be_rendered(rows):
    text = rendered(*rows, max_length=5)
    assert f"{len(rows):,}" in text
    assert text.endswith("\n")
