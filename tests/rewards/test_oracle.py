import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.rows import Message
from trueup.errors import RecipeError
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.oracle import (
    PreferenceOracle,
    ask_both_orders,
    checked_probabilities,
    contradictions,
    symmetrized,
)

PROBABILITY = st.floats(0, 1)
# in circles: rock loses to paper, paper to scissors, scissors to rock
BEATS = {("paper", "rock"), ("scissors", "paper"), ("rock", "scissors")}


def circle(prompts, first, second):
    return [0.5 if a == b else 0.9 if (a, b) in BEATS else 0.1 for a, b in zip(first, second, strict=True)]


def told(table):
    """An oracle that looks its answers up."""
    return FunctionOracle(lambda prompts, first, second: [table[key] for key in zip(first, second, strict=True)], "t")


def test_preferences_in_circles_contradict_nothing():
    oracle = FunctionOracle(circle, "circle")
    assert isinstance(oracle, PreferenceOracle)
    first, second = ["rock", "paper", "scissors"], ["paper", "scissors", "rock"]
    both = ask_both_orders(oracle, ["p"] * 3, first=first, second=second)
    assert both.forward.tolist() == [0.1] * 3
    assert both.backward.tolist() == [0.9] * 3
    assert both.excess == pytest.approx(0, abs=1e-15)
    found = contradictions(oracle, ["p"] * 3, first=first, second=second)
    assert (found.mean, found.position_bias) == (pytest.approx(0, abs=1e-15), pytest.approx(0, abs=1e-15))
    assert (found.reversals, found.comparisons) == (0, 3)


def test_contradictions_worked_by_hand():
    # excesses: 0.8 (what stands first), -0.4 (what stands second), 0
    table = {("a", "b"): 0.9, ("b", "a"): 0.9, ("c", "d"): 0.2, ("d", "c"): 0.4, ("e", "f"): 0.7, ("f", "e"): 0.3}
    prompts = ["p", (Message("user", "q"),), "r"]
    found = contradictions(told(table), prompts, first=["a", "c", "e"], second=["b", "d", "f"])
    assert found.mean == pytest.approx(0.4)
    assert found.position_bias == pytest.approx(0.4 / 3)
    assert found.reversals == pytest.approx(2 / 3)
    assert [tuple(one) for one in found.worst] == [
        ("p", "a", "b", 0.9, 0.9),
        ((Message("user", "q"),), "c", "d", 0.2, 0.4),
    ]


def test_as_many_examples_as_asked_for_and_none_without_comparisons():
    oracle = FunctionOracle(lambda prompts, first, second: [0.8] * len(first), "first")
    assert len(contradictions(oracle, ["p"] * 5, first=["a"] * 5, second=["b"] * 5, most=2).worst) == 2
    nothing = contradictions(oracle, [], first=[], second=[])
    assert (np.isnan(nothing.mean), nothing.comparisons, nothing.worst) == (True, 0, ())


@given(forward=PROBABILITY, backward=PROBABILITY)
def test_a_symmetrized_oracle_cannot_contradict_itself(forward, backward):
    oracle = symmetrized(told({("a", "b"): forward, ("b", "a"): backward}))
    assert oracle.name == "t"
    there, back = oracle.prefer(["p"] * 2, ["a", "b"], ["b", "a"])
    assert there + back == pytest.approx(1)
    assert there == pytest.approx((forward + 1 - backward) / 2)
    assert 0 <= there <= 1
    assert contradictions(oracle, ["p"], first=["a"], second=["b"]).mean == pytest.approx(0, abs=1e-12)


def test_symmetrizing_twice_asks_no_more():
    calls = []

    def counted(prompts, first, second):
        calls.append(len(prompts))
        return [0.6] * len(prompts)

    once = symmetrized(FunctionOracle(counted, "f"))
    assert symmetrized(once) is once
    once.prefer(["p"] * 3, list("abc"), list("def"))
    assert calls == [6]


def test_an_even_oracle_is_left_as_it_is():
    first, second = ["rock", "paper"], ["scissors", "rock"]
    oracle = FunctionOracle(circle, "circle")
    assert symmetrized(oracle).prefer(["p"] * 2, first, second) == pytest.approx(
        oracle.prefer(["p"] * 2, first, second)
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5], r"f returned 1 probabilities for 2 comparisons; return one for each"),
        ([0.5] * 3, r"returned 3 probabilities for 2"),
        ([0.5, 1.01], r"f returned 1.01 for comparison 1; return the probability, from 0 to 1"),
        ([-0.1, 0.5], r"returned -0.1 for comparison 0"),
        ([0.5, float("nan")], r"returned nan for comparison 1"),
        ([0.5, None], r"returned None for comparison 1"),
        (["0.5", 0.5], r"returned '0.5' for comparison 0"),
        (np.ones((2, 2)), r"returned array\(\[1., 1.\]\) for comparison 0"),
        ([torch.ones(2), 0.5], r"returned tensor\(\[1., 1.\]\) for comparison 0"),
    ],
)
def test_what_is_no_probability_is_one_clear_message(values, words):
    with pytest.raises(RecipeError, match=words):
        checked_probabilities(values, comparisons=2, name="f")


def test_any_number_from_0_to_1_is_a_probability():
    values = checked_probabilities([0, True, np.float32(0.5), torch.tensor(0.25)], comparisons=4, name="f")
    assert values.tolist() == [0, 1, 0.5, 0.25]
    assert values.dtype == np.float64


def test_every_oracle_is_checked_when_both_orders_are_asked():
    class Wrong:
        name = "wrong"

        def prefer(self, prompts, first, second):
            return np.full(len(prompts), 1.5)

    with pytest.raises(RecipeError, match=r"wrong returned .*1\.5"):
        ask_both_orders(Wrong(), ["p"], first=["a"], second=["b"])
