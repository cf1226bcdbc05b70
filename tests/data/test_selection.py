import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.pairs import pairs_of
from trueup.data.rowfile import Problem
from trueup.data.rows import Origin, Response
from trueup.data.selection import Dropped, select, text_pairs
from trueup.errors import OutputError

from .samples import pair_row, row_lists, scored_row


def reasons(*rows, **options):
    return select(rows, **options).summary()


def labelled(*answers: tuple[str, bool | None], number: int = 1):
    responses = tuple(Response(text=text, label=label) for text, label in answers)
    return replace(pair_row("p", "", "", number=number), responses=responses)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (scored_row(1.0), "single response"),
        (pair_row("p", "same", "same"), "identical responses"),
        (scored_row(1.0, 2.0, texts=["same", "same"]), "identical responses"),
        (scored_row(1.0, 1.0), "tie"),
        (scored_row(None, None), "no preference"),
        (scored_row(1.0, None), "no preference"),
        (labelled(("a", True), ("b", True)), "no preference"),
        (labelled(("a", True), ("b", None)), "no preference"),
    ],
)
def test_rows_without_a_preference_are_dropped_with_a_reason(row, reason):
    selection = select([row])
    assert selection.kept == ()
    assert selection.summary() == {reason: 1}
    assert (selection.dropped[0].origin, selection.dropped[0].id) == (row.origin, "r1")


def test_good_rows_are_kept_as_they_are():
    rows = [pair_row("p", "a", ""), scored_row(1.0, 2.0, 2.0, number=2), scored_row(1.0, 2.0, None, number=3)]
    assert select(rows).kept == tuple(rows)
    assert select(rows).dropped == ()


def test_empty_responses_are_dropped_on_request():
    row = pair_row("p", "a", " \n")
    assert reasons(row) == {}
    assert reasons(row, drop_empty=True) == {"empty responses": 1}
    selection = select([scored_row(1.0, 2.0, 3.0, texts=["a", "", "b"])], drop_empty=True)
    assert [one.text for one in selection.kept[0].responses] == ["a", "b"]
    assert selection.dropped == (Dropped("response empty", Origin("made", 1), "r1", "response 2 of 3"),)


def test_repeated_responses_are_kept_once_unless_their_labels_contradict():
    selection = select([scored_row(1.0, 2.0, 1.5, texts=["a", "b", "a"])])
    assert [(one.text, one.score) for one in selection.kept[0].responses] == [("a", 1.0), ("b", 2.0)]
    assert selection.summary() == {"response repeated": 1}
    contradiction = labelled(("a", True), ("b", True), ("a", False), ("c", False))
    assert [one.text for one in select([contradiction]).kept[0].responses] == ["b", "c"]


def test_duplicate_rows():
    rows = [pair_row("p", "a", "b"), pair_row("p", "b", "a", number=2), pair_row("p", "a", "b", number=3)]
    same = replace(rows[0], id="r4", responses=rows[0].responses[::-1])
    selection = select([*rows, same], drop_duplicates=True)
    assert [row.id for row in selection.kept] == ["r1", "r2"]
    assert [one.detail for one in selection.dropped] == ["the same as made:1"] * 2
    assert select([*rows, same]).kept == (*rows, same)


def test_contradictory_rows():
    rows = [pair_row("p", "a", "b"), pair_row("p", "b", "a", number=2), pair_row("q", "b", "a", number=3)]
    selection = select(rows, drop_contradictory=True)
    assert [row.id for row in selection.kept] == ["r3"]
    assert selection.summary() == {"contradictory row": 2}
    wider = scored_row(1.0, 2.0, 3.0, texts=["a", "b", "c"], number=4, prompt="p")
    kept = [row.id for row in select([rows[0], wider], drop_contradictory=True).kept]
    assert kept == ["r4"]


def test_problems_of_reading_are_listed_first(tmp_path):
    problem = Problem("prompts differ", Origin("f", 9), "at turn 3")
    selection = select([scored_row(1.0)], problems=[problem])
    selection.write(tmp_path / "dropped.jsonl")
    assert [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()] == [
        {"reason": "prompts differ", "file": "f", "row": 9, "id": None, "detail": "at turn 3"},
        {
            "reason": "single response",
            "file": "made",
            "row": 1,
            "id": "r1",
            "detail": "a preference needs at least two",
        },
    ]
    with pytest.raises(OutputError):
        selection.write(tmp_path / "dropped.jsonl" / "below")


@given(row_lists(), st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None)
def test_nothing_is_lost_and_what_is_kept_can_be_trained_on(rows, drop_empty, drop_duplicates, drop_contradictory):
    selection = select(
        rows, drop_empty=drop_empty, drop_duplicates=drop_duplicates, drop_contradictory=drop_contradictory
    )
    whole_rows = [one for one in selection.dropped if not one.reason.startswith("response ")]
    assert sorted([row.id for row in selection.kept] + [one.id for one in whole_rows]) == sorted(r.id for r in rows)
    for row in selection.kept:
        assert len({one.text for one in row.responses}) == len(row.responses)
        assert text_pairs(row)
        assert len(text_pairs(row)) == len(pairs_of(row))
    assert sum(selection.summary().values()) == len(selection.dropped)
