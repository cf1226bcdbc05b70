from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.noise import flip_labels
from trueup.data.pairs import pairs_of, ranking_of, ties_of
from trueup.errors import RecipeError

from .samples import pair_row, row_lists, scored_row

SEEDS = st.integers(0, 10)
SHARES = st.floats(0, 1)


def flipped(rows, share, seed):
    """Which rows change when all of them state a preference."""
    return {row.id for row, new in zip(rows, flip_labels(rows, share, seed), strict=True) if new != row}


MANY = [pair_row(f"prompt {number}", "a", "b", number=number) for number in range(2000)]


def test_worked_examples():
    (row,) = flip_labels([pair_row("p", "a", "b")], 1.0, 0)
    assert pairs_of(row) == [(1, 0)]
    (row,) = flip_labels([scored_row(1.0, 5.0, None, 2.0, 2.0)], 1.0, 0)
    assert [one.score for one in row.responses] == [5.0, 1.0, None, 2.0, 2.0]
    labelled = replace(scored_row(1.0, 2.0), responses=pair_row("p", "a", "b").responses)
    gold = replace(labelled, responses=tuple(replace(one, score=7.0) for one in labelled.responses))
    assert [one.score for one in flip_labels([gold], 1.0, 0)[0].responses] == [7.0, 7.0]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_about_the_share_is_flipped(share):
    count = len(flipped(MANY, share, 3))
    assert abs(count - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5
    assert flipped(MANY, 0.0, 3) == set()
    assert len(flipped(MANY, 1.0, 3)) == 2000


def test_seeds_choose_other_rows_and_larger_shares_more_of_the_same():
    assert flipped(MANY, 0.25, 0) != flipped(MANY, 0.25, 1)
    assert flipped(MANY, 0.1, 0) < flipped(MANY, 0.25, 0)


@given(row_lists(), SHARES, SEEDS)
@settings(deadline=None)
def test_flipping_twice_gives_the_rows_back(rows, share, seed):
    assert flip_labels(flip_labels(rows, share, seed), share, seed) == rows


@given(row_lists(), SEEDS)
@settings(deadline=None)
def test_flipping_reverses_every_ranking(rows, seed):
    for row, new in zip(rows, flip_labels(rows, 1.0, seed), strict=True):
        assert ranking_of(new) == ranking_of(row)[::-1]
        assert {(b, a) for a, b in pairs_of(new)} == set(pairs_of(row))
        assert ties_of(new) == ties_of(row)


@given(row_lists(), SHARES, SEEDS)
@settings(deadline=None)
def test_order_and_company_do_not_matter(rows, share, seed):
    assert flip_labels(rows[::-1], share, seed)[::-1] == flip_labels(rows, share, seed)
    assert flip_labels(rows[:1], share, seed) == flip_labels(rows, share, seed)[:1]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_bad_shares(share):
    with pytest.raises(RecipeError, match="share must lie in"):
        flip_labels(MANY, share, 0)
