import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.check_counts import (
    Finding,
    find_overlap,
    find_problems,
    find_truncated,
    longer_wins,
    missing_scores,
)
from trueup.data.pairs import pairs_of
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Origin

from .samples import pair_row, row_lists, scored_row


def counts(rows, problems=()):
    return {one.kind: (one.count, [place.row for place in one.places]) for one in find_problems(rows, problems)}


def test_clean_rows_have_no_findings():
    assert find_problems([pair_row("p", "a", "b"), scored_row(1.0, 2.0, number=2)], []) == []


def test_each_finding_is_counted_with_its_rows():
    rows = [
        pair_row("p", "a", ""),
        pair_row("p", "same", "same", number=2),
        pair_row("p", "a", " \n", number=3),
        scored_row(1.0, 1.0, 1.0, number=4),
        scored_row(1.0, 2.0, None, number=5),
        scored_row(None, None, number=6),
    ]
    problems = [Problem("prompts differ", Origin("made", 9), "")] * 2
    assert counts(rows, problems) == {
        "unusable: prompts differ": (2, [9]),
        "empty responses": (1, [1]),
        "responses of white space only": (1, [3]),
        "identical responses in a row": (1, [2]),
        "no preference stated": (2, [4, 6]),
        "missing scores": (1, [5]),
        "tied scores": (3, [4]),
    }
    assert [one.kind for one in find_problems(rows, problems) if not one.strict] == ["tied scores"]


def test_repeated_and_contradictory_pairs():
    rows = [
        pair_row("p", "a", "b"),
        pair_row("p", "b", "a", number=2),
        pair_row("p", "a", "b", number=3),
        pair_row("q", "b", "a", number=4),
        scored_row(3.0, 2.0, 1.0, texts=["a", "b", "c"], number=5, prompt="q"),
    ]
    assert counts(rows) == {
        "duplicated rows": (1, [3]),
        "duplicated pairs": (1, [3]),
        "contradictory pairs": (2, [2, 5]),
    }


def test_no_more_than_five_places():
    (finding,) = find_problems([pair_row(str(n), "a", "", number=n) for n in range(1, 9)], [])
    assert (finding.count, len(finding.places)) == (8, 5)
    assert str(finding) == "empty responses: 8 responses (rows 1, 2, 3, 4, 5, ...)"
    assert str(Finding("x", 1, "rows", (Origin("f", 7),))) == "x: 1 rows (rows 7)"


@given(row_lists(), st.integers(1, 20))
@settings(deadline=None)
def test_pair_findings_equal_brute_force(rows, copies):
    rows = [*rows, *rows[:copies]]
    pairs = [
        (row.prompt, row.responses[a].text, row.responses[b].text)
        for row in rows
        for a, b in pairs_of(row)
        if row.responses[a].text != row.responses[b].text
    ]
    found = counts(rows)
    assert found.get("duplicated pairs", (0,))[0] == sum(number - 1 for number in Counter(pairs).values())
    distinct = set(pairs)
    both_ways = sum((p, b, a) in distinct for p, a, b in distinct) // 2
    assert found.get("contradictory pairs", (0,))[0] == both_ways


def test_truncation_counts_prompt_and_response_together():
    rows = [pair_row("p", "a", "b", number=number) for number in (1, 2)]
    assert find_truncated(rows, [[5, 5, 6], [11, 0, 0]], 10) == Finding(
        "longer than 10", 3, "branches", (Origin("made", 1), Origin("made", 2))
    )
    assert find_truncated(rows, [[5, 5, 5], [0, 0, 0]], 10).count == 0


def test_overlap_ignores_case_and_white_space():
    rows = [pair_row("What is  it?", "a", "b"), pair_row("other", "a", "b", number=2)]
    assert find_overlap(rows, [pair_row("what is it? ", "x", "y")]).count == 1
    turns = pair_row((Message("user", "What is it?"),), "x", "y")
    assert find_overlap(rows, [turns]).count == 0
    assert find_overlap([turns], [replace(turns, id="other")]).count == 1


def test_missing_scores():
    assert missing_scores(scored_row(1.0, None, None)) == 2
    assert missing_scores(scored_row(None, None)) == 0
    assert missing_scores(pair_row("p", "a", "b")) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
@settings(deadline=None)
def test_longer_wins_equals_brute_force(lengths):
    rows = [pair_row("p", "a", "b", number=number) for number in range(len(lengths))]
    longer, shorter, equal = longer_wins(rows, [[9, *pair] for pair in lengths])
    assert longer == sum(chosen > rejected for chosen, rejected in lengths)
    assert shorter == sum(chosen < rejected for chosen, rejected in lengths)
    assert longer + shorter + equal == len(lengths)


def test_longer_wins_looks_at_all_pairs_of_a_row():
    row = scored_row(3.0, 2.0, 1.0)
    signs = Counter()
    lengths = (4, 4, 7)
    for high, low in itertools.combinations(lengths, 2):
        signs[(high > low) - (high < low)] += 1
    assert longer_wins([row], [[0, *lengths]]) == (signs[1], signs[-1], signs[0]) == (0, 2, 1)
