"""Elastic Reset: closed forms, limits, and the schedules of the published runs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.anchors.elastic_reset import ElasticReset, ResetToAverage, ResetToInit
from trueup.errors import RecipeError
from weight_paths import close, copied, equal, follow_path, places, random_walk, some_weights

NEVER = 10**9


def drift(velocity):
    """An optimiser with a constant gradient."""
    return lambda live, step: {name: tensor + velocity[name] for name, tensor in live.items()}


def lag(decay, k):
    """How many steps' worth the average has moved after k: k - d (1 - d^k) / (1 - d)."""
    return k - decay * (1 - decay**k) / (1 - decay)


@given(decay=st.floats(0, 0.99), period=st.integers(1, 20))
def test_jumps_of_a_constant_gradient_have_closed_forms(decay, period):
    start, velocity = some_weights(1), some_weights(2)
    anchor = ElasticReset(decay=decay, period=period)
    _, after, state = follow_path(anchor, start, 2 * period, move=drift(velocity))
    first = {name: start[name] + lag(decay, period) * velocity[name] for name in start}
    assert close(after[period - 1], first, 1e-9)
    # The second average begins at the start, while the policy begins at the first jump.
    kept = decay**period
    second = {
        name: kept * start[name] + (1 - kept) * first[name] + lag(decay, period) * velocity[name] for name in start
    }
    assert close(after[2 * period - 1], second, 1e-9)
    assert equal(state.copies["average"], start)


def test_by_hand():
    """From 0 by 1 a step, decay 0.5, period 2: averages 0.5 and 1.25, jump to 1.25; then 1.125 and 2.1875."""
    start, velocity = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    before, after, _ = follow_path(ElasticReset(decay=0.5, period=2), start, 4, move=drift(velocity))
    assert [float(w["w"]) for w in before] == [1.0, 2.0, 2.25, 3.25]
    assert [float(w["w"]) for w in after] == [1.0, 1.25, 2.25, 2.1875]


@pytest.mark.parametrize(("updates", "share"), [(17, 0.082), (200, 0.63), (1040, 0.995)])
def test_how_far_the_published_decay_goes_back(updates, share):
    """Of the way from the start to a policy at rest, at decay 0.995."""
    start, rest = {"w": torch.zeros(1, dtype=torch.float64)}, {"w": torch.ones(1, dtype=torch.float64)}
    _, after, _ = follow_path(ElasticReset(period=updates), start, updates, move=lambda live, step: rest)
    assert float(after[-1]["w"]) == pytest.approx(share, abs=5e-3)


def test_a_reset_copies_exactly_and_shares_nothing():
    anchor, live = ElasticReset(decay=0.7, period=2), some_weights(1)
    start = copied(live)
    state = anchor.init(live)
    live = random_walk(live, 1)
    state, jump = anchor.update(state, live, step=1)
    assert jump is None
    live = random_walk(live, 2)
    expected = {n: 0.7 * state.copies["average"][n] + 0.3 * live[n] for n in live}
    state, jump = anchor.update(state, live, step=2)
    assert close(jump, expected)
    average, kept = state.copies["average"], state.copies["start"]
    assert equal(average, start)
    assert equal(kept, start)
    assert not places(average) & places(kept)
    assert not places(average) & places(jump)
    for tensor in (*jump.values(), *average.values()):
        tensor.add_(1.0)
    assert equal(kept, start)


def test_an_endless_period_changes_nothing():
    start = some_weights(1)
    for anchor in (ElasticReset(period=NEVER), ResetToAverage(period=NEVER), ResetToInit(period=NEVER)):
        before, after, _ = follow_path(anchor, start, 12, move=random_walk)
        assert all(map(equal, before, after))


def test_without_memory_the_first_reset_moves_the_average_alone():
    start = some_weights(1)
    before, after, state = follow_path(ElasticReset(decay=0.0, period=5), start, 5, move=random_walk)
    assert all(map(equal, before, after))
    assert equal(state.copies["average"], start)


@pytest.mark.parametrize("offset", [None, 1, 4])
def test_with_endless_memory_it_is_reset_to_init(offset):
    start = some_weights(1)
    _, elastic, _ = follow_path(ElasticReset(decay=1.0, period=3, offset=offset), start, 10, move=random_walk)
    _, plain, _ = follow_path(ResetToInit(period=3, offset=offset), start, 10, move=random_walk)
    assert all(map(equal, elastic, plain))
    assert equal(plain[3 - 1 if offset is None else offset - 1], start)


def test_reset_to_average_goes_on_with_its_average():
    """As `test_by_hand`, but the average goes on from 1.25: 1.75, then 2.5."""
    start, velocity = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    before, after, _ = follow_path(ResetToAverage(decay=0.5, period=2), start, 4, move=drift(velocity))
    assert [float(w["w"]) for w in before] == [1.0, 2.0, 2.25, 3.25]
    assert [float(w["w"]) for w in after] == [1.0, 1.25, 2.25, 2.5]


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        ({"period": 17, "offset": 1}, 50, [1, 18, 35]),  # the IMDB loop, which counts iterations from 0
        ({"period": 260, "offset": 261}, 600, [261, 521]),  # the LLaMA loop, which also skips iteration 0
        ({"period": 17}, 50, [17, 34]),
        ({"period": 5, "offset": 12}, 20, [12, 17]),
    ],
)
@pytest.mark.parametrize("kind", [ElasticReset, ResetToAverage, ResetToInit])
def test_resets_come_when_they_are_due(kind, settings, steps, expected):
    anchor, live = kind(**settings), {"w": torch.zeros(1)}
    state, found = anchor.init(live), []
    for step in range(1, steps + 1):
        state, jump = anchor.update(state, live, step=step)
        found += [step] if jump is not None else []
    assert found == expected


def test_updates_as_often_as_told_and_before_the_reset():
    """Two steps an iteration: after steps 2 and 4 the average is 0.5 * 2 = 1, then 0.5 * 1 + 0.5 * 4 = 2.5."""
    start, velocity = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    anchor = ElasticReset(decay=0.5, period=4, update_every=2)
    _, after, _ = follow_path(anchor, start, 4, move=drift(velocity))
    assert [float(w["w"]) for w in after] == [1.0, 2.0, 3.0, 2.5]


def test_the_kl_is_measured_against_the_start_or_the_average():
    start = some_weights(1)
    for anchor in (ElasticReset(), ResetToAverage(), ResetToInit()):
        assert anchor.reference(anchor.init(start)) is None
    anchor = ElasticReset(kl_reference="ema", decay=0.5, period=2)
    before, _, state = follow_path(anchor, start, 1, move=random_walk)
    assert close(anchor.reference(state), {n: (start[n] + before[0][n]) / 2 for n in start})
    _, _, state = follow_path(anchor, start, 2, move=random_walk)
    assert equal(anchor.reference(state), start)


@pytest.mark.parametrize(
    "wrong",
    [{"decay": 2.0}, {"period": 0}, {"offset": 0}, {"update_every": 0}, {"kl_reference": "start"}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        ElasticReset(**wrong)
