"""The moving average: its closed form, its limits, its type."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.anchors.ema import ExponentialAverage
from trueup.errors import RecipeError
from weight_paths import close, copied, equal, follow_path, random_walk, some_weights


@given(decay=st.floats(0, 1), steps=st.integers(0, 40))
def test_of_a_constant_policy_is_the_closed_form(decay, steps):
    """average - p = decay^k (start - p)."""
    start, rest = some_weights(1), some_weights(2)
    _, _, state = follow_path(ExponentialAverage(decay=decay), start, steps, move=lambda live, step: rest)
    expected = {name: rest[name] + decay**steps * (start[name] - rest[name]) for name in start}
    assert close(state.copies["average"], expected)


def test_by_hand():
    """From 0 with 1, then 3, at decay 0.75: 0.25, then 0.75 * 0.25 + 0.25 * 3 = 0.9375."""
    path = {1: 1.0, 2: 3.0}
    start = {"w": torch.zeros(1, dtype=torch.float64)}
    move = lambda live, step: {"w": torch.full((1,), path[step], dtype=torch.float64)}  # noqa: E731
    _, _, state = follow_path(ExponentialAverage(decay=0.75), start, 2, move=move)
    assert state.copies["average"]["w"].item() == 0.9375


def test_is_the_weighted_sum_of_the_whole_path():
    start, decay, steps = some_weights(3), 0.9, 25
    before, _, state = follow_path(ExponentialAverage(decay=decay), start, steps, move=random_walk)
    for name in start:
        terms = [(1 - decay) * decay ** (steps - k) * before[k - 1][name] for k in range(1, steps + 1)]
        assert torch.allclose(state.copies["average"][name], decay**steps * start[name] + sum(terms), atol=1e-12)


def test_rate_zero_is_the_frozen_start():
    """WARP's mu = 0."""
    start, anchor = some_weights(1), ExponentialAverage(decay=1.0)
    _, _, state = follow_path(anchor, start, 7, move=random_walk)
    assert equal(anchor.reference(state), start)


def test_rate_one_is_the_policy_itself():
    """WARP's mu = 1: the KL to the reference is 0 at the next step."""
    start, anchor = some_weights(1), ExponentialAverage(decay=0.0)
    before, after, state = follow_path(anchor, start, 7, move=random_walk)
    assert equal(anchor.reference(state), after[-1])
    assert all(map(equal, before, after))


def test_never_touches_the_policy():
    start = some_weights(1)
    _, after, _ = follow_path(ExponentialAverage(decay=0.5), start, 6, move=random_walk)
    live = copied(start)
    for step in range(1, 7):
        live = random_walk(live, step)
        assert equal(live, after[step - 1])


def test_is_wide_where_the_policy_is_not():
    """In bfloat16 an average of decay 0.999 would stand still at 0.5: each step is less than half a unit there."""
    start = {"w": torch.full((4,), 0.5, dtype=torch.bfloat16)}
    rest = {"w": torch.full((4,), 0.75, dtype=torch.bfloat16)}
    _, _, state = follow_path(ExponentialAverage(decay=0.999), start, 500, move=lambda live, step: rest)
    average = state.copies["average"]["w"]
    assert average.dtype == torch.float32
    assert average.tolist() == pytest.approx([0.75 - 0.25 * 0.999**500] * 4, abs=1e-5)
    narrow = start["w"].clone()
    for _ in range(500):
        narrow = 0.999 * narrow + 0.001 * rest["w"]
    assert abs(float(narrow[0]) - float(average[0])) > 0.05


def test_updates_as_often_as_told():
    start = some_weights(1)
    before, _, state = follow_path(ExponentialAverage(decay=0.6, update_every=3), start, 8, move=random_walk)
    expected = start
    for step in (3, 6):
        expected = {name: 0.6 * expected[name] + 0.4 * before[step - 1][name] for name in start}
    assert close(state.copies["average"], expected)


def test_integers_take_the_newest_value():
    start = {"w": torch.zeros(2), "count": torch.tensor(3)}
    move = lambda live, step: {"w": live["w"] + 1, "count": live["count"] + 1}  # noqa: E731
    _, _, state = follow_path(ExponentialAverage(decay=0.5), start, 2, move=move)
    assert state.copies["average"]["count"].item() == 5
    assert state.copies["average"]["w"].tolist() == [1.25, 1.25]


@pytest.mark.parametrize("wrong", [{"decay": 1.1}, {"decay": -0.1}, {"decay": float("nan")}, {"update_every": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        ExponentialAverage(**wrong)
