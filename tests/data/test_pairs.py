import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.pairs import has_labels, judgements_of, pairs_of, ranking_of, ties_of
from trueup.data.rows import Origin, Response, Row
from trueup.errors import RecipeError

from .samples import RESPONSE, pair_row, scored_row

ROWS = st.lists(RESPONSE, min_size=1, max_size=6).map(
    lambda responses: Row(prompt="p", responses=tuple(responses), id="r", origin=Origin("made", 1))
)


def labelled(*labels: bool | None, scores: tuple[float, ...] = ()) -> Row:
    row = scored_row(*(scores or [None] * len(labels)))
    answers = tuple(replace(one, label=label) for one, label in zip(row.responses, labels, strict=True))
    return replace(row, responses=answers)


def test_worked_examples():
    assert pairs_of(pair_row("p", "good", "bad")) == [(0, 1)]
    assert sorted(pairs_of(scored_row(1.0, 3.0, 2.0))) == [(1, 0), (1, 2), (2, 0)]
    assert pairs_of(scored_row(1.0, 3.0, 2.0), rule="best_versus_worst") == [(1, 0)]
    assert pairs_of(scored_row(1.0, None, 2.0)) == [(2, 0)]
    assert pairs_of(scored_row(1.0, 1.0)) == []
    assert pairs_of(scored_row(1.0, 1.0), rule="best_versus_worst") == []
    assert pairs_of(scored_row(1.0)) == []
    assert sorted(pairs_of(scored_row(0.0, 1.0, 3.0), min_gap=1.0)) == [(2, 0), (2, 1)]


def test_best_versus_worst_takes_the_first_of_equals():
    assert pairs_of(scored_row(0.0, 2.0, 0.0, 2.0), rule="best_versus_worst") == [(1, 0)]


def test_labels_win_over_scores():
    assert pairs_of(labelled(False, True, scores=(9.0, 1.0))) == [(1, 0)]
    assert pairs_of(labelled(False, True, None, scores=(9.0, 1.0, 5.0))) == [(1, 0)]
    assert pairs_of(labelled(False, True, scores=(9.0, 1.0)), min_gap=5.0) == [(1, 0)]
    assert ties_of(labelled(True, True, scores=(1.0, 1.0))) == 0
    assert not has_labels(scored_row(1.0))


def test_three_by_three_labels_give_nine_pairs():
    row = labelled(True, True, True, False, False, False)
    assert sorted(pairs_of(row)) == list(itertools.product((0, 1, 2), (3, 4, 5)))
    assert ranking_of(row) == ((0, 1, 2), (3, 4, 5))


@given(ROWS)
@settings(deadline=None)
def test_all_pairs_equal_brute_force(row):
    judged = judgements_of(row)
    expected = {(i, j) for i, j in itertools.product(judged, judged) if judged[i] > judged[j]}
    pairs = pairs_of(row)
    assert set(pairs) == expected
    assert len(pairs) == len(expected)


@given(ROWS)
@settings(deadline=None)
def test_rankings_hold_every_judged_response_once_and_agree_with_pairs(row):
    ranking = ranking_of(row)
    place = {index: rank for rank, group in enumerate(ranking) for index in group}
    assert sorted(place) == sorted(judgements_of(row))
    assert all(place[chosen] < place[rejected] for chosen, rejected in pairs_of(row))
    count = len(place) * (len(place) - 1) // 2
    if not has_labels(row):
        assert len(pairs_of(row)) + ties_of(row) == count


@given(ROWS)
@settings(deadline=None)
def test_best_versus_worst_is_one_of_all_pairs_and_spans_them(row):
    pairs = pairs_of(row)
    ends = pairs_of(row, rule="best_versus_worst")
    assert len(ends) == min(1, len(pairs))
    judged = judgements_of(row)
    for best, worst in ends:
        assert (best, worst) in pairs
        assert all(judged[worst] <= value <= judged[best] for value in judged.values())


def test_bad_settings():
    row = Row(prompt="p", responses=(Response(text="x"),), id="r", origin=Origin("made", 1))
    with pytest.raises(RecipeError, match="rule must be one of all, best_versus_worst, got some"):
        pairs_of(row, rule="some")
    with pytest.raises(RecipeError, match="min_gap must not be negative, got -1"):
        pairs_of(row, min_gap=-1)
