"""Mean, worst case and uncertainty-weighted: the card's exact values and invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trueup.errors import RecipeError
from trueup.rewards.aggregates import (
    AGGREGATES,
    Mean,
    UncertaintyWeighted,
    WorstCase,
    aggregate_from,
    aggregate_settings,
)

REWARDS = arrays(
    float, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-20, 20, allow_subnormal=False)
)
ALL = [Mean(), WorstCase(), UncertaintyWeighted(), UncertaintyWeighted(coefficient=0.1)]


def test_the_three_on_one_two_six():
    """With the sample variance (7 instead of 14/3) the last would be -0.5."""
    members = np.array([[1.0], [2.0], [6.0]])
    assert Mean()(members).tolist() == [3.0]
    assert WorstCase()(members).tolist() == [1.0]
    assert UncertaintyWeighted(coefficient=0.5)(members) == pytest.approx([2 / 3], abs=1e-12)
    assert UncertaintyWeighted(coefficient=1.0)(members) == pytest.approx([3 - 14 / 3], abs=1e-12)


@given(REWARDS)
def test_limits(members):
    alone, same = members[:1], np.repeat(members[:1], 4, axis=0)
    for aggregate in ALL:
        assert aggregate(alone) == pytest.approx(alone[0], abs=1e-12)
        assert aggregate(same) == pytest.approx(same[0], abs=1e-9)
    assert UncertaintyWeighted(coefficient=0.0)(members) == pytest.approx(Mean()(members), abs=1e-12)


@given(REWARDS, st.floats(-5, 5), st.floats(0.1, 3), st.randoms())
def test_order_shift_and_scale(members, shift, scale, random):
    order = list(range(len(members)))
    random.shuffle(order)
    mean = Mean()(members)
    for aggregate in ALL:
        plain = aggregate(members)
        assert plain == pytest.approx(aggregate(members[order]), abs=1e-9)
        assert aggregate(members + shift) == pytest.approx(plain + shift, abs=1e-9)
        assert (plain <= mean + 1e-9).all()
        power = 2 if isinstance(aggregate, UncertaintyWeighted) else 1
        assert mean * scale - aggregate(members * scale) == pytest.approx((mean - plain) * scale**power, abs=1e-7)


@pytest.mark.parametrize("coefficient", [0.1, 0.5, 2.0])
def test_the_gradient_changes_sign_where_the_card_says(coefficient):
    """dR/dR_i = 1/k - (2 lambda / k)(R_i - mean): zero where a member exceeds the mean by 1 / (2 lambda)."""
    aggregate = UncertaintyWeighted(coefficient=coefficient)
    threshold = 1 / (2 * coefficient)
    for above, sign in ((0.9 * threshold, 1), (1.1 * threshold, -1)):
        members = np.array([above, -above / 2, -above / 2])[:, None]
        raised = members + np.array([1e-5, 0, 0])[:, None]
        slope = (aggregate(raised) - aggregate(members)).item() / 1e-5
        assert np.sign(slope) == sign
        assert slope == pytest.approx(1 / 3 - 2 * coefficient / 3 * above, abs=1e-4)


@pytest.mark.parametrize("coefficient", [-0.1, float("nan"), float("inf")])
def test_a_coefficient_that_means_nothing(coefficient):
    with pytest.raises(RecipeError, match="coefficient must be"):
        UncertaintyWeighted(coefficient=coefficient)


def test_settings_there_and_back():
    assert {type(aggregate) for aggregate in ALL} == set(AGGREGATES.values())
    for aggregate in ALL:
        assert aggregate_from(aggregate_settings(aggregate)) == aggregate
    assert aggregate_settings(UncertaintyWeighted()) == {"name": "uwo", "coefficient": 0.5}
    for wrong in (None, "wco", {"name": "median"}, {"name": "wco", "coefficient": 1.0}, {"name": "uwo", "lambda": 1}):
        with pytest.raises(ValueError, match="aggregate is"):
            aggregate_from(wrong)
    with pytest.raises(RecipeError, match="function has no name"):
        aggregate_settings(lambda members: members[0])
