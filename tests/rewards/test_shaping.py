"""Penalties, clipping and whitening of rewards."""

import numpy as np
import pytest

from trueup.errors import RecipeError
from trueup.rewards.shaping import Shaping

REWARD = np.array([3.0, 0.0, -4.0])
TOKENS = np.array([10, 20, 30])
FINISHED = np.array([True, False, True])


def shape(**settings):
    return Shaping(**settings)(REWARD, tokens=TOKENS, finished=FINISHED)


def test_nothing_is_asked_nothing_changes():
    assert shape().tolist() == REWARD.tolist()


def test_each_by_hand():
    assert shape(missing_eos_penalty=1.0).tolist() == [3.0, -1.0, -4.0]
    assert shape(length_penalty=0.1).tolist() == [2.0, -2.0, -7.0]
    assert shape(clip=2.0).tolist() == [2.0, 0.0, -2.0]


def test_clipping_comes_after_penalties():
    assert shape(length_penalty=0.2, clip=1.5).tolist() == [1.0, -1.5, -1.5]


def test_whitening():
    white = shape(whiten=True)
    assert white.mean() == pytest.approx(0.0, abs=1e-12)
    assert white.std() == pytest.approx(1.0)
    assert np.array_equal(white.argsort(), REWARD.argsort())


def test_equal_rewards_are_not_divided_by_zero():
    same = Shaping(whiten=True)(np.full(3, 2.5), tokens=TOKENS, finished=FINISHED)
    assert same.tolist() == [0.0, 0.0, 0.0]


def test_a_clip_that_makes_no_sense():
    with pytest.raises(RecipeError, match="clip must be positive"):
        Shaping(clip=0.0)
