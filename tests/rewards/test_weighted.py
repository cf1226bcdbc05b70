"""Weighted sums of rewards."""

import pytest

from trueup.errors import RecipeError
from trueup.rewards.function import FunctionReward
from trueup.rewards.weighted import WeightedSum

LENGTH = FunctionReward(lambda prompts, completions: [len(text) for text in completions], "length")
QUESTION = FunctionReward(lambda prompts, completions: [float("?" in text) for text in completions], "question")


def test_the_sum_and_its_parts():
    both = WeightedSum(parts=(LENGTH, QUESTION), weights=(0.5, -2.0))
    scores = both.score(["a", "b"], [["xx?", "y"], ["zz"]])
    assert scores.reward.tolist() == [0.5 * 3 - 2.0, 0.5, 1.0]
    assert scores.members.tolist() == [[3.0, 1.0, 2.0], [1.0, 0.0, 0.0]]
    assert scores.prompt.tolist() == [0, 0, 1]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, float("nan"))])
def test_weights_must_fit(weights):
    with pytest.raises(RecipeError, match="weight"):
        WeightedSum(parts=(LENGTH, QUESTION), weights=weights)
