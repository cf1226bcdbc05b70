from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.functional.preference import (
    hinge,
    kept_pairs,
    logistic,
    margin_of_pairs,
    of_pairs,
    pair_loss,
    require,
    squared,
    unbiased_logistic,
)
from trueup.objectives.example import two_preferences

margins = st.floats(-20, 20)


def of(function, margin, **settings):
    return function(torch.tensor(margin, dtype=torch.float64), **settings).item()


@given(margin=margins, rate=st.floats(0, 0.49))
def test_the_mean_over_flipped_labels_is_the_loss_of_true_ones(margin, rate):
    right, wrong = (of(unbiased_logistic, sign * margin, flipped=rate) for sign in (1, -1))
    mean = (1 - rate) * right + rate * wrong
    assert mean == pytest.approx(of(logistic, margin), abs=1e-10)


@given(margin=margins, rate=st.floats(0.01, 0.49))
def test_smoothing_is_the_mean_over_labels_flipped_on_purpose(margin, rate):
    mean = (1 - rate) * of(logistic, margin) + rate * of(logistic, -margin)
    assert of(logistic, margin, label_smoothing=rate) == pytest.approx(mean)


def test_hinge_and_squared():
    assert of(hinge, 0.25, target=1.0) == 0.75
    assert of(hinge, 1.25, target=1.0) == 0
    assert of(squared, 0.25, target=1.0) == 0.75**2
    assert of(squared, 1.5, target=1.0) == 0.25


def test_values_of_pairs():
    batch = replace(two_preferences(), pairs=torch.tensor([[2, 0], [0, 1]]))
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    chosen, rejected = of_pairs(values, batch)
    assert chosen.tolist() == [4, 1]
    assert rejected.tolist() == [1, 2]
    assert margin_of_pairs(values, batch).tolist() == [3, -1]
    assert kept_pairs(batch) is None
    assert kept_pairs(replace(batch, kept=torch.tensor([True, False, True, True]))).tolist() == [True, False]


def test_metrics_by_hand():
    """Responses have probability 1/4, 1/4, 1/2 and 1/8."""
    batch = two_preferences()
    reward = torch.tensor([3.0, 1.0, 2.0, 2.0], dtype=torch.float64, requires_grad=True)
    loss = pair_loss(torch.zeros(2), reward, batch)
    assert {name: value.exp().tolist() for name, value in loss.metrics.items() if name.startswith("logps")} == {
        "logps/chosen": pytest.approx([0.25, 0.5]),
        "logps/rejected": pytest.approx([0.25, 0.125]),
    }
    assert {name: value.tolist() for name, value in loss.metrics.items() if name.startswith("rewards")} == {
        "rewards/chosen": [3, 2],
        "rewards/rejected": [1, 2],
        "rewards/margins": [2, 0],
        "rewards/accuracies": [1, 0],
    }


def test_refusals_say_what_was_found_and_what_to_do():
    require(True, "gamma", 1.0, must="be positive", cure="take 2")
    with pytest.raises(RecipeError, match=r"^gamma must be positive, got -1\.0; take 2$"):
        require(False, "gamma", -1.0, must="be positive", cure="take 2")
