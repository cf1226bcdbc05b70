"""Weights of cloning: their clamp, and what a weight of zero leaves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.functional.cloning import clipped_ratio, is_outside, positive_advantage, share, weighted_loss
from trueup.types import PolicyBatch


@given(x=st.floats(-30, 30), clip=st.floats(0, 3))
def test_the_ratio_is_clamped_as_its_definition_says(x, clip):
    expected = min(max(math.exp(x), 1 - clip), 1 + clip)
    found = clipped_ratio(torch.tensor([x], dtype=torch.float64), clip=clip)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("x", "expected"), [(1e30, 1.9), (-1e30, 0.1), (float("inf"), 1.9), (float("-inf"), 0.1)])
def test_no_ratio_overflows(x, expected):
    assert float(clipped_ratio(torch.tensor([x]), clip=0.9)) == pytest.approx(expected, rel=1e-6)


def test_ratios_carry_no_gradient():
    assert not clipped_ratio(torch.zeros(2, requires_grad=True), clip=0.9).requires_grad


def test_what_is_outside():
    ratio = torch.tensor([0.05, 0.5, 1.0, 1.8, 2.0], dtype=torch.float64)
    assert is_outside(ratio.log(), clip=0.9).tolist() == [1, 0, 0, 0, 1]
    assert is_outside(ratio.log(), clip=1.5).tolist() == [0, 0, 0, 0, 0]


def test_a_weight_of_zero_leaves_nothing_even_of_an_impossible_response():
    logprob = torch.tensor([-2.0, -math.inf], requires_grad=True)
    loss = weighted_loss(torch.tensor([3.0, 0.0]), logprob)
    assert loss.tolist() == [6.0, 0.0]
    (slope,) = torch.autograd.grad(loss.sum(), logprob)
    assert slope.tolist() == [-3.0, 0.0]


def test_advantages_of_branches_are_their_tokens_and_not_below_zero():
    batch = PolicyBatch(
        logprob=torch.zeros(4),
        branch=torch.tensor([0, 0, 1, 2]),
        prompt=torch.tensor([0, 0, 1]),
        advantage=torch.tensor([0.3, 0.3, -0.2, 0.0]),
    )
    assert positive_advantage(batch).tolist() == pytest.approx([0.3, 0.0, 0.0])


def test_shares():
    share("mix", 0.0)
    share("mix", 1.0)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(RecipeError, match=r"mix must lie in \[0, 1\]"):
            share("mix", wrong)
