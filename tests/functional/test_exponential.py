import math

import pytest
import torch

from trueup.functional.exponential import continued_exp, continued_expm1


@pytest.mark.parametrize(("function", "plain"), [(continued_exp, torch.exp), (continued_expm1, torch.expm1)])
def test_plain_below_and_a_tangent_above(function, plain):
    x = torch.tensor([-60.0, -1.0, 0.0, 1e-9, 3.0], dtype=torch.float64)
    assert torch.equal(function(x, 3.0), plain(x))
    slope = torch.autograd.functional.jacobian(lambda v: function(v, 3.0).sum(), x)
    assert torch.allclose(slope, x.exp())
    beyond = torch.tensor([4.0, 1000.0], dtype=torch.float64, requires_grad=True)
    expected = plain(torch.tensor(3.0, dtype=torch.float64)) + math.exp(3) * (beyond - 3)
    assert torch.allclose(function(beyond, 3.0), expected)
    (slope,) = torch.autograd.grad(function(beyond, 3.0).sum(), beyond)
    assert slope.tolist() == pytest.approx([math.exp(3)] * 2)
