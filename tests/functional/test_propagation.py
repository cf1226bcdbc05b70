"""Weights from the losses to come: by loops, by hand, and their sum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.functional.propagation import future_weights

LENGTHS = [4, 1, 3]
BRANCH = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS))


def by_loops(losses, gamma):
    ahead = [sum(gamma ** (j - i) * losses[j] for j in range(i, len(losses))) for i in range(len(losses))]
    return [len(losses) * c / sum(ahead) for c in ahead]


@given(losses=st.lists(st.floats(0.01, 20), min_size=8, max_size=8), gamma=st.floats(0.01, 1))
def test_weights_are_those_of_the_definition_and_sum_to_the_length(losses, gamma):
    found = future_weights(torch.tensor(losses, dtype=torch.float64), BRANCH, 3, gamma=gamma)
    parts = [part.tolist() for part in torch.split(found, LENGTHS)]
    given_parts = [part.tolist() for part in torch.split(torch.tensor(losses, dtype=torch.float64), LENGTHS)]
    for weights, own in zip(parts, given_parts, strict=True):
        assert weights == pytest.approx(by_loops(own, gamma), rel=1e-9)
        assert sum(weights) == pytest.approx(len(own))
        assert min(weights) >= 0


def test_the_worked_example():
    """Losses 1, 1/2, 2 and 1/5 at gamma 0.95; the last weight is T l_N / (T sum c)."""
    losses = torch.tensor([1.0, 0.5, 2.0, 0.2], dtype=torch.float64)
    weights = future_weights(losses, torch.zeros(4, dtype=torch.long), 1, gamma=0.95)
    assert weights.tolist() == pytest.approx([1.639, 1.226, 1.040, 0.095], abs=5e-4)
    assert float((weights * losses).mean()) == pytest.approx(1.0878, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_of_zero_are_divided_by_nothing(dtype):
    losses = torch.zeros(8, dtype=dtype)
    losses[4] = 2.0
    losses.requires_grad_()
    weights = future_weights(losses, BRANCH, 3, gamma=0.95)
    assert weights.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    (slope,) = torch.autograd.grad((weights * losses).sum(), losses)
    assert slope.isfinite().all()


def test_gamma_zero_weighs_all_alike():
    assert future_weights(torch.arange(8.0), BRANCH, 3, gamma=0.0).tolist() == [1.0] * 8
