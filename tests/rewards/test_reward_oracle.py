import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.rows import Message
from trueup.errors import RecipeError
from trueup.rewards.function import FunctionReward
from trueup.rewards.oracle import PreferenceOracle, contradictions
from trueup.rewards.reward_oracle import from_reward


def length(prompts, completions):
    return [float(len(text)) for text in completions]


LENGTH = FunctionReward(length, "length")


def test_bradley_terry_worked_by_hand():
    # rewards 3, 1 and 2, 2: differences 2 and 0
    oracle = from_reward(LENGTH)
    assert isinstance(oracle, PreferenceOracle)
    assert oracle.name == "length"
    found = oracle.prefer(["p", "q"], ["abc", "ab"], ["a", "xy"])
    assert found == pytest.approx([1 / (1 + math.exp(-2)), 0.5])
    halved = from_reward(LENGTH, scale=2).prefer(["p"], ["abc"], ["a"])
    assert halved == pytest.approx([1 / (1 + math.exp(-1))])


@given(st.lists(st.tuples(st.sampled_from("pq"), st.text("ab", max_size=4), st.text("ab", max_size=4)), max_size=12))
def test_it_is_consistent_and_equals_the_formula_one_by_one(rows):
    prompts, first, second = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    # the reward depends on the prompt as well, so that a wrong index would show
    reward = FunctionReward(
        lambda prompts, completions: [
            len(text) * (2 if prompt == "p" else -1) + text.count("a") / 8
            for prompt, text in zip(prompts, completions, strict=True)
        ],
        "r",
    )
    found = from_reward(reward).prefer(prompts, first, second)
    for value, prompt, a, b in zip(found, prompts, first, second, strict=True):
        x, y = reward.score([prompt], [[a, b]]).reward
        assert value == pytest.approx(1 / (1 + math.exp(y - x)))
    if rows:
        assert contradictions(from_reward(reward), prompts, first=first, second=second).mean < 1e-12


def test_each_response_is_scored_once_and_each_prompt_given_once():
    seen = []

    def spy(prompts, completions):
        seen.append(list(zip(map(str, prompts), map(str, completions), strict=True)))
        return [0.0] * len(completions)

    chat = (Message("user", "hi"),)
    texts = ["a", "b", "c"]
    first = [a for a in texts for b in texts if a != b]
    second = [b for a in texts for b in texts if a != b]
    from_reward(FunctionReward(spy, "spy")).prefer([chat] * 6 + ["p"], [*first, "a"], [*second, "z"])
    assert len(seen) == 1
    assert len(seen[0]) == len(set(seen[0])) == 5


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(RecipeError, match="scale must be positive and finite"):
        from_reward(LENGTH, scale=scale)


def test_a_reward_without_a_number_cannot_compare():
    class Broken:
        name = "broken"

        def score(self, prompts, responses):
            scores = LENGTH.score(prompts, responses)
            scores.reward[1] = np.nan
            return scores

    with pytest.raises(RecipeError, match="broken scored nan for the response 'b'; it cannot compare"):
        from_reward(Broken()).prefer(["p"], ["a"], ["b"])
