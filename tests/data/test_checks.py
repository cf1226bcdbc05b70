import json

import numpy as np
import pytest

from trueup.data.checks import check_rows
from trueup.data.fingerprint import fingerprint
from trueup.data.formats import read_rows
from trueup.data.rowfile import Problem, RowFile
from trueup.data.rows import Origin
from trueup.errors import DataError, RecipeError

from .samples import pair_row, scored_row


def as_file(*rows, problems=()) -> RowFile:
    return RowFile(
        rows=rows,
        format="preference",
        problems=tuple(problems),
        fingerprint=fingerprint(rows),
        source="data.jsonl",
        ignored=("meta",),
        blank_lines=1,
    )


CLEAN = as_file(pair_row("abc", "longer", "short"), scored_row(1.0, 2.0, 3.0, texts=["x", "yy", "zzz"], number=2))


def test_a_hand_worked_report():
    report = check_rows(CLEAN)
    assert (report.rows, report.responses, report.pairs) == (2, 5, 4)
    assert (report.unit, report.total_length) == ("characters", 3 + 6 + 5 + 8 + 1 + 2 + 3)
    quantiles = {"min": 3, "p5": 3.25, "median": 5.5, "p95": 7.75, "p99": 7.95, "max": 8}
    assert report.prompt_lengths == {"mean": 5.5, **quantiles}
    assert report.response_lengths["median"] == 3
    assert (report.longer_wins.share, report.longer_wins.n, report.longer_wins.equal) == (1.0, 4, 0)
    assert report.labels == {"preferred": 1, "not preferred": 1, "unlabelled": 3}
    assert report.sources == {"writer 0": 1, "writer 1": 1, "writer 2": 1}
    assert (report.scored, report.ignored, report.blank_lines) == (3, ("meta",), 1)
    assert report.findings == report.problems == ()
    report.raise_if_strict()


def test_lengths_may_be_tokens():
    report = check_rows(CLEAN, lengths=lambda row: [10, *range(1, len(row.responses) + 1)], max_length=12)
    assert (report.unit, report.total_length) == ("tokens", 20 + 3 + 6)
    assert report.prompt_lengths["max"] == 10
    assert report.response_lengths["mean"] == pytest.approx(np.mean([1, 2, 1, 2, 3]))
    assert [(one.kind, one.count) for one in report.findings] == [("longer than 12", 1)]
    with pytest.raises(ValueError, match="lengths must give 3 numbers for made:1, got 1"):
        check_rows(CLEAN, lengths=lambda row: [10])
    with pytest.raises(RecipeError, match="max_length must be at least 1, got 0"):
        check_rows(CLEAN, max_length=0)


def test_strictness_turns_problems_into_one_error_with_row_numbers():
    rows = [pair_row("p", "a", "", number=number) for number in (3, 8)]
    report = check_rows(as_file(*rows, problems=[Problem("prompts differ", Origin("data.jsonl", 5), "")]))
    with pytest.raises(DataError) as caught:
        report.raise_if_strict()
    assert str(caught.value) == (
        "data.jsonl: unusable: prompts differ: 1 records (rows 5); empty responses: 2 responses (rows 3, 8); "
        "duplicated rows: 1 rows (rows 8); duplicated pairs: 1 pairs (rows 8); "
        "mend these rows, or check without strictness"
    )


def test_ties_are_a_note_and_no_problem():
    report = check_rows(as_file(scored_row(1.0, 1.0, 2.0)))
    assert [one.kind for one in report.findings] == ["tied scores"]
    report.raise_if_strict()


def test_shared_prompts_are_a_problem():
    other = as_file(pair_row(" ABC", "x", "y"))
    report = check_rows(CLEAN, other=other)
    assert [(one.kind, one.count) for one in report.problems] == [("prompts shared with the other file", 1)]
    assert check_rows(other, other=as_file(pair_row("new", "x", "y"))).problems == ()


def test_reports_are_json():
    report = check_rows(as_file(pair_row("p", "a", "b"), pair_row("p", "b", "a", number=2)))
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["findings"] == [
        {"kind": "contradictory pairs", "count": 1, "unit": "pairs", "strict": True, "places": ["made:2"]}
    ]
    assert content["longer_wins"] == {"share": None, "n": 0, "equal": 2}
    assert content["rows"] == 2


def test_real_data(shared_data):
    original = read_rows(shared_data / "hh-rlhf-harmless" / "original-test.jsonl.gz")
    prepared = read_rows(shared_data / "hh-rlhf-harmless", split="test")
    report = check_rows(original, other=prepared)
    found = {one.kind: one.count for one in report.findings}
    assert found == {
        "unusable: prompts differ": 5,
        "empty responses": 4,
        "prompts shared with the other file": 454,
    }
    assert check_rows(prepared).problems == ()
    opinpref = check_rows(read_rows(shared_data / "opinpref" / "train.jsonl.gz"))
    assert opinpref.longer_wins.share == pytest.approx(0.77, abs=0.01)
