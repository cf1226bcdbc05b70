"""Pairs of self-play: frequencies and the oracle's questions."""

import numpy as np
import pytest

from trueup.errors import RecipeError
from trueup.lab.games.pairs import draw_pairs, expected_pairs, independent_pairs, tournament_pairs

POLICY = np.array([0.5, 0.3, 0.2])
PREFERRED = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.6], [0.7, 0.4, 0.5]])
ORDER = np.array([[0.5, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]])


def test_independent_pairs_have_the_expected_frequencies():
    drawn = independent_pairs(POLICY, PREFERRED, count=200_000, generator=np.random.default_rng(0))
    assert drawn.counts.sum() == drawn.calls == 200_000
    expected = expected_pairs(POLICY, PREFERRED)
    assert expected.sum() == pytest.approx(1.0)
    assert drawn.counts / 200_000 == pytest.approx(expected, abs=4e-3)


def test_a_tournament_of_a_strict_order_gives_best_and_worst():
    """All responses are among 64 entrants but once in a million times: 0 beats 2 in every group."""
    drawn = tournament_pairs(POLICY, ORDER, count=300, generator=np.random.default_rng(1), entrants=64)
    assert drawn.counts[0, 2] == 300
    assert drawn.dropped == 0


@pytest.mark.parametrize(("entrants", "calls"), [(2, 2), (4, 5), (8, 11), (16, 23)])
def test_a_tournament_asks_as_often_as_the_paper_says(entrants, calls):
    """K/2 first, then K/4 + ... + 1 on either side, and one more."""
    drawn = tournament_pairs(POLICY, PREFERRED, count=7, generator=np.random.default_rng(2), entrants=entrants)
    assert drawn.calls == 7 * calls
    assert drawn.counts.sum() + drawn.dropped == 7


def test_a_coin_drops_half_of_the_tournaments():
    drawn = tournament_pairs(POLICY, np.full((3, 3), 0.5), count=4_000, generator=np.random.default_rng(3))
    assert drawn.dropped / 4_000 == pytest.approx(0.5, abs=0.03)


def test_two_entrants_are_a_pair_that_is_asked_for_twice():
    """Kept with the probability of the same answer again: p^2 for either order."""
    drawn = tournament_pairs(POLICY, PREFERRED, count=200_000, generator=np.random.default_rng(4), entrants=2)
    twice = 2 * np.outer(POLICY, POLICY) * PREFERRED**2
    assert drawn.counts / 200_000 == pytest.approx(twice, abs=4e-3)


def test_the_selection_names_the_way():
    for selection, way in (("independent", independent_pairs), ("tournament", tournament_pairs)):
        named = draw_pairs(POLICY, PREFERRED, selection=selection, count=50, generator=np.random.default_rng(5))
        direct = way(POLICY, PREFERRED, count=50, generator=np.random.default_rng(5))
        assert np.array_equal(named.counts, direct.counts)


@pytest.mark.parametrize("entrants", [0, 1, 6])
def test_other_numbers_of_entrants_are_refused(entrants):
    with pytest.raises(RecipeError, match="power of two"):
        tournament_pairs(POLICY, PREFERRED, count=1, generator=np.random.default_rng(0), entrants=entrants)
