import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.divergences import estimators
from trueup.functional.exponential import continued_expm1

P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.5, 0.1], dtype=torch.float64)
RATIO = (P / Q).log()
KL, REVERSED, CHI2 = (P * RATIO).sum(), -(Q * RATIO).sum(), ((P - Q) ** 2 / Q).sum()


@pytest.mark.parametrize(
    ("values", "divergence"),
    [
        (estimators.k1(RATIO), KL),
        (estimators.k3(RATIO), KL),
        (estimators.continued_k3(RATIO), KL),
        (estimators.forward_kl(RATIO), REVERSED),
        (estimators.continued_chi2(RATIO), CHI2),
        (estimators.q_log(RATIO, index=2), CHI2),
        (estimators.q_log(RATIO, index=1), KL),
        (estimators.q_log(RATIO, index=0.5), 2 - 2 * (P * Q).sqrt().sum()),
        (estimators.q_log(RATIO, index=3), ((P**3 / Q**2).sum() - 1) / 2),
    ],
)
def test_their_mean_is_the_divergence(values, divergence):
    assert (P * values).sum().item() == pytest.approx(divergence.item())


def test_k2_is_the_kl_up_to_third_order():
    direction = torch.tensor([1.0, -2.0, 0.5, 0.5], dtype=torch.float64)
    near = (P.log() + 1e-3 * direction).log_softmax(-1)
    ratio = P.log() - near
    exact = (P * ratio).sum().item()
    assert (P * estimators.k2(ratio)).sum().item() == pytest.approx(exact, rel=2e-3)
    assert (P * estimators.k2(RATIO)).sum().item() != pytest.approx(KL.item(), rel=0.01)


@given(log_ratio=st.floats(-60, 60))
def test_those_that_are_never_negative(log_ratio):
    ratio = torch.tensor(log_ratio, dtype=torch.float64)
    for estimate in (estimators.k2, estimators.continued_k3, estimators.continued_chi2, estimators.forward_kl):
        assert estimate(ratio) >= 0
    assert estimators.k3(ratio) >= 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("estimate", [estimators.continued_k3, estimators.continued_chi2, estimators.forward_kl])
def test_they_go_on_in_value_and_slope_at_10_and_stay_finite(estimate, sign):
    ratio = torch.tensor([10 - 1e-9, 10 + 1e-9, 400.0], dtype=torch.float64).mul(sign).requires_grad_()
    values = estimate(ratio)
    (slope,) = torch.autograd.grad(values.sum(), ratio)
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)
    assert slope[0].item() == pytest.approx(slope[1].item(), rel=1e-6)
    assert values[2].isfinite()
    assert values[2] > values[1]


def test_inside_the_limit_they_are_the_plain_ones():
    ratio = torch.linspace(-10, 10, 41, dtype=torch.float64)
    assert torch.allclose(estimators.continued_k3(ratio), estimators.k3(ratio))
    assert torch.allclose(estimators.continued_chi2(ratio), 2 * ratio.cosh() - 2)
    assert torch.allclose(estimators.forward_kl(ratio), 1 - (1 + ratio) * (-ratio).exp())
    beyond = torch.tensor(12.0, dtype=torch.float64)
    assert estimators.continued_chi2(beyond).item() == pytest.approx(3 * math.exp(10) - 2 + math.exp(-12))
    assert torch.allclose(estimators.q_log(beyond, index=2), continued_expm1(beyond, 10))
