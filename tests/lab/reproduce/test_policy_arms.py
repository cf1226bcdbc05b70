"""Reading runs off at equal KL, and what intervals say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.lab.reproduce.policy_arms import (
    KL_GRID,
    at_kl,
    gold_gain,
    judge_equal,
    over_known,
    paired_at,
    prompts_at,
    reach,
    shared_kls,
    weights_at,
)
from trueup.measure.scored import Estimate

from .made_runs import made_looks, made_policy_world


def test_looks_are_weighted_along_the_root_of_kl():
    """d is 0, 1, 2, 4: 3 lies halfway between the last two."""
    looks = made_looks([0, 1, 4, 16], [0, 1, 3, 7])
    assert weights_at(looks, 9.0) == pytest.approx([0, 0, 0.5, 0.5])
    assert weights_at(looks, 0.0) == pytest.approx([1, 0, 0, 0])
    assert weights_at(looks, 1.0) == pytest.approx([0, 1, 0, 0])
    assert at_kl(looks, 9.0) == pytest.approx(5.0)
    assert np.isnan(at_kl(looks, 16.5))
    assert reach(looks) == pytest.approx(16.0)


def test_a_distance_counts_where_it_is_reached_first():
    """The root is 0, 2, 2, 3, whatever the third look says."""
    looks = made_looks([0, 4, 1, 9], [0, 1, 100, 3])
    assert at_kl(looks, 4.0) == pytest.approx(1.0)
    assert weights_at(looks, 6.25) == pytest.approx([0, 0, 0.5, 0.5])


@given(st.lists(st.floats(0.0, 30.0), min_size=2, max_size=6), st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=40)
def test_prompts_average_to_the_run(kls, share):
    looks = made_looks([0.0, *kls], np.sin(np.arange(len(kls) + 1)).tolist())
    kl = share * reach(looks)
    alone = prompts_at(looks, [kl, 0.0, 2 * reach(looks) + 1])
    assert alone.shape == (3, 3)
    assert alone[:, 0].mean() == pytest.approx(at_kl(looks, kl))
    assert alone[:, 1].mean() == pytest.approx(at_kl(looks, 0.0))
    assert np.isnan(alone[:, 2]).all()


def two_worlds():
    far, near = made_looks([0, 1, 9], [0, 2, 4]), made_looks([0, 1, 4.5], [1, 5, 9])
    short = made_looks([0, 0.2], [0, 1])
    first = made_policy_world(0, {"a": far, "b": near, "short": short}, unit=2.0)
    return [first, made_policy_world(1, {"a": far, "b": near, "short": short}, unit=1.0)]


def test_arms_are_compared_where_all_of_them_get():
    worlds = two_worlds()
    assert shared_kls(worlds, ["a"]) == (0.5, 1.0, 2.0, 4.0, 8.0)
    assert shared_kls(worlds, ["a", "b"]) == (0.5, 1.0, 2.0, 4.0)
    assert shared_kls(worlds, ["a", "short"]) == ()
    # at KL 1: 4 against 2 above the start, over units of 2 and of 1
    assert [gold_gain(world, "b", 1.0) - gold_gain(world, "a", 1.0) for world in worlds] == pytest.approx([1, 2])
    found = paired_at(worlds, "b", "a", kls=[1.0])
    assert (found.value, found.n) == (pytest.approx(1.5), 2)
    assert paired_at(worlds, "b", "a", kls=[0.25, 1.0]).value == pytest.approx(0.5 * (0.75 + 1.5))
    nothing = paired_at(worlds, "b", "a", kls=[1.0, 8.0])
    assert nothing.n == 0
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert paired_at(worlds, "a", "b", kls=()).n == 0
    assert KL_GRID[0] == 0.5


def test_worlds_without_a_value_are_left_out():
    found = over_known([1.0, np.nan, 3.0])
    assert (found.value, found.n) == (2.0, 2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.08, "reproduced"),
        (0.02, 0.08, "reproduced"),
        (0.02, 0.2, "contradicted"),
        (-0.3, -0.2, "contradicted"),
        (-0.3, 0.05, "not at this scale"),
        (np.nan, np.nan, "not at this scale"),
    ],
)
def test_no_difference_needs_an_interval_within_the_margin(low, high, verdict):
    assert judge_equal(Estimate((low + high) / 2, low, high, 5), margin=0.1) == verdict
