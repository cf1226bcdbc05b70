import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.functional.surrogate import clipped_surrogate, is_clipped, with_score


@given(log_ratio=st.floats(-3, 3), advantage=st.floats(-5, 5), clip=st.floats(0.05, 0.9))
def test_it_is_the_formula_and_a_lower_bound(log_ratio, advantage, clip):
    ratio = math.exp(log_ratio)
    expected = min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
    arguments = torch.tensor([log_ratio], dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    found = clipped_surrogate(*arguments, clip=clip)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    assert found <= clipped_surrogate(*arguments, clip=None) + 1e-12


@given(log_ratio=st.floats(-3, 3), advantage=st.floats(-5, 5).filter(lambda a: abs(a) > 1e-3))
def test_where_it_is_clipped_it_has_no_gradient_and_elsewhere_the_plain_one(log_ratio, advantage):
    moved = torch.tensor([log_ratio], dtype=torch.float64, requires_grad=True)
    gain = torch.tensor([advantage], dtype=torch.float64)
    (slope,) = torch.autograd.grad(clipped_surrogate(moved, gain, clip=0.2).sum(), moved)
    expected = 0.0 if is_clipped(moved, gain, clip=0.2) else math.exp(log_ratio) * advantage
    assert slope.item() == pytest.approx(expected)


@pytest.mark.parametrize("clip", [0.2, None])
def test_at_ratio_1_the_gradient_is_reinforces(clip):
    moved = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    gain = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    values = clipped_surrogate(moved, gain, clip=clip)
    assert torch.equal(values.detach(), gain)
    assert torch.equal(torch.autograd.grad(values.sum(), moved)[0], gain)


def test_a_ratio_out_of_bounds_stays_finite():
    moved = torch.tensor([2000.0, 2000.0, -2000.0, 2000.0], requires_grad=True)
    gain = torch.tensor([1.0, -1.0, -1.0, 0.0])
    values = clipped_surrogate(moved, gain, clip=0.2)
    (slope,) = torch.autograd.grad(values.sum(), moved)
    assert values.isfinite().all()
    assert slope.isfinite().all()
    assert slope[0] == 0
    assert slope[1] < 0
    assert not is_clipped(moved, gain, clip=None).any()


def test_a_value_with_a_gradient_of_its_own():
    logprob = torch.tensor([-1.0, -2.0], requires_grad=True)
    found = with_score(torch.tensor([5.0, 7.0]), torch.tensor([3.0, -4.0]), logprob)
    assert found.tolist() == [5.0, 7.0]
    assert torch.autograd.grad(found.sum(), logprob)[0].tolist() == [3.0, -4.0]
