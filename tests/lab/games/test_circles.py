"""Sequences of three kinds."""

import pytest
import torch

from trueup.lab.games.circles import CircleWorld, circle_games, kinds_of, preferences, shares_of_kinds
from trueup.lab.games.descent import Descent
from trueup.lab.games.responders import spellings


def number(word):
    return sum("abcd".index(letter) * 4 ** (len(word) - 1 - place) for place, letter in enumerate(word))


@pytest.mark.parametrize(
    ("word", "kind"),
    [("aaaa", 0), ("abbd", 1), ("cadd", 2), ("bcdc", 2), ("dddd", 0), ("bacc", 2), ("bada", 0), ("dcba", 2)],
)
def test_the_kind_is_the_most_frequent_letter_and_of_equals_the_first(word, kind):
    assert kinds_of(spellings(4, 4))[number(word)].item() == kind


def test_preferences_by_hand():
    """aaaa beats cccc, which beats bbbb, which beats aaaa; half of d is worth 0.05."""
    preferred = preferences(4)
    assert torch.allclose(preferred + preferred.T, torch.ones_like(preferred))
    assert preferred.min() >= 0

    def of(one, other):
        return preferred[number(one), number(other)].item()

    assert of("aaaa", "cccc") == of("cccc", "bbbb") == of("bbbb", "aaaa") == pytest.approx(0.9)
    assert of("aadd", "aaaa") == pytest.approx(0.55)
    assert of("aadd", "cccc") == pytest.approx(0.95)
    assert of("aaaa", "dddd") == pytest.approx(0.4)


def test_policies_learn_their_text():
    """Letters are independent in it, so that the first letter is as frequent as the last."""
    games, _ = circle_games(CircleWorld(descent=Descent(steps=150, learning_rate=0.05)), [0, 1])
    chances, letters = games.reference.exp(), spellings(4, 4)
    assert torch.allclose(chances.sum(1), torch.ones(2, dtype=torch.float64))
    for place in (0, 3):
        of_letter = torch.stack([chances[:, letters[:, place] == letter].sum(1) for letter in range(4)], 1)
        if place:
            assert torch.allclose(of_letter, first, atol=0.06)  # noqa: F821
        first = of_letter
    assert not torch.allclose(first[0], first[1], atol=0.06)
    shares = shares_of_kinds(games.reference, 4)
    assert torch.allclose(shares.sum(1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(shares[0, 1], chances[0, kinds_of(letters) == 1].sum())
