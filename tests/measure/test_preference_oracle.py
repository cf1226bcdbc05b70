import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling
from trueup.measure.preference_oracle import consistency
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.oracle import ask_both_orders, contradictions

PROBABILITIES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


def test_worked_by_hand(few):
    found = consistency(np.array([0.9, 0.2, 0.7]), np.array([0.9, 0.4, 0.3]), prompt=np.arange(3), resampling=few)
    assert found.excess.value == pytest.approx(0.4)
    assert found.position_bias.value == pytest.approx(0.4 / 3)
    assert found.reversals.value == pytest.approx(2 / 3)
    assert found.excess.n == 3


@given(PROBABILITIES)
@settings(max_examples=20)
def test_equals_what_the_oracle_floor_says_of_the_same_answers(rows):
    forward, backward = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    first, second = [f"a{k}" for k in range(len(rows))], [f"b{k}" for k in range(len(rows))]
    table = dict(zip([*first, *second], [*forward, *backward], strict=True))
    oracle = FunctionOracle(lambda prompts, first, second: [table[text] for text in first], "table")
    prompts = ["p"] * len(rows)
    found = contradictions(oracle, prompts, first=first, second=second)
    both = ask_both_orders(oracle, prompts, first=first, second=second)
    ours = consistency(both.forward, both.backward, prompt=np.arange(len(rows)), resampling=Resampling(resamples=2))
    assert ours.excess.value == pytest.approx(found.mean)
    assert ours.position_bias.value == pytest.approx(found.position_bias)
    assert ours.reversals.value == pytest.approx(found.reversals)


def test_what_decides_by_place_alone_has_an_excess_of_one(few):
    ones = np.ones(20)
    found = consistency(ones, ones, prompt=np.arange(20), resampling=few)
    assert (found.excess.value, found.position_bias.value, found.reversals.value) == (1, 1, 1)
    assert found.excess.low < 1  # Wilson's interval: twenty comparisons do not prove all
    last = consistency(0 * ones, 0 * ones, prompt=np.arange(20), resampling=few)
    assert (last.excess.value, last.position_bias.value) == (1, -1)


def test_prompts_are_what_is_resampled(few):
    rng = np.random.default_rng(0)
    forward = rng.random(30)
    alone = consistency(forward, 0.5 + 0 * forward, prompt=np.arange(30), resampling=few)
    copied = consistency(
        np.tile(forward, 9), np.full(270, 0.5), prompt=np.tile(np.arange(30) * 5 - 7, 9), resampling=few
    )
    assert alone.excess.low == pytest.approx(copied.excess.low)
    assert alone.excess.high == pytest.approx(copied.excess.high)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_named(bad, few):
    with pytest.raises(DataError, match=r"field `backward`: .* for comparison 1; expected a probability"):
        consistency(np.array([0.5, 0.5]), np.array([0.5, bad]), prompt=np.arange(2), resampling=few)
    with pytest.raises(DataError, match="no comparisons"):
        consistency(np.zeros(0), np.zeros(0), prompt=np.zeros(0, np.int64), resampling=few)
