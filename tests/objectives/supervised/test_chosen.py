"""The likelihood of chosen responses: by hand, its limits, and that nothing else moves."""

from dataclasses import replace

import pytest
import torch

from trueup.errors import RecipeError
from trueup.objectives.example import two_preferences
from trueup.objectives.supervised.chosen import ChosenLikelihood


def test_by_hand():
    """Two chosen responses: tokens of log-probability log 0.5 twice, and log 0.5 once; times 2."""
    batch = replace(two_preferences(), pairs=torch.tensor([[0, 1], [3, 2]]))
    log = torch.tensor([0.5, 0.5, 0.5, 0.25], dtype=torch.float64).log()
    expected = [-2 * float(log[:2].mean()), -2 * float(log[2:].mean())]
    assert ChosenLikelihood(coefficient=2.0)(batch, {}).values.tolist() == pytest.approx(expected)


def test_only_chosen_responses_move_each_by_one_over_its_length():
    batch = two_preferences()
    (slope,) = torch.autograd.grad(ChosenLikelihood()(batch, {}).values.sum(), batch.logprob)
    assert slope.tolist() == pytest.approx([-0.5, -0.5, 0, -1, 0, 0])


def test_a_chosen_response_counts_in_each_of_its_pairs():
    batch = replace(two_preferences(), pairs=torch.tensor([[0, 1], [0, 2], [3, 1]]))
    values = ChosenLikelihood()(batch, {}).values
    assert values[0] == values[1]
    assert values.shape == (3,)


def test_pairs_that_are_not_kept_do_not_count():
    batch = replace(two_preferences(), kept=torch.tensor([True, True, False, True]))
    assert ChosenLikelihood()(batch, {}).mask.tolist() == [True, False]


def test_without_pairs_or_with_a_negative_coefficient_it_is_refused():
    with pytest.raises(RecipeError, match="no `pairs`"):
        ChosenLikelihood()(replace(two_preferences(), pairs=None), {})
    with pytest.raises(RecipeError, match="coefficient must not be negative, got -1"):
        ChosenLikelihood(coefficient=-1)
