"""Divergences of given distributions against sums, SciPy, and each other."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.divergences.chi2 import chi2, sqrt_chi2
from trueup.divergences.kl import entropy, kl
from trueup.divergences.tsallis import tsallis
from trueup.errors import RecipeError

LOGITS = st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=2, max_size=6)


def distributions(logits):
    table = torch.tensor(logits, dtype=torch.float64).T
    return table.log_softmax(-1).unbind(0)


@given(logits=LOGITS)
def test_they_are_their_sums(logits):
    p, q = distributions(logits)
    a, b = p.exp().numpy(), q.exp().numpy()
    assert kl(p, q).item() == pytest.approx(scipy.stats.entropy(a, b), abs=1e-9)
    assert entropy(p).item() == pytest.approx(scipy.stats.entropy(a), abs=1e-9)
    assert chi2(p, q).item() == pytest.approx(np.sum((a - b) ** 2 / b), rel=1e-6, abs=1e-12)
    assert sqrt_chi2(p, q).item() == pytest.approx(math.sqrt(np.sum((a - b) ** 2 / b)), rel=1e-6, abs=1e-7)
    for index in (0.5, 1.5, 3.0):
        expected = (np.sum(a**index * b ** (1 - index)) - 1) / (index - 1)
        assert tsallis(p, q, index=index).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(logits=LOGITS)
def test_chi_squared_is_above_the_exponential_of_kl_less_1(logits):
    p, q = distributions(logits)
    assert chi2(p, q) >= torch.expm1(kl(p, q)) - 1e-9
    assert torch.expm1(kl(p, q)) >= kl(p, q) - 1e-12
    assert kl(p, q) >= -1e-12


@given(logits=LOGITS)
def test_tsallis_passes_through_kl_and_chi_squared(logits):
    p, q = distributions(logits)
    assert tsallis(p, q, index=2).item() == pytest.approx(chi2(p, q).item(), rel=1e-6, abs=1e-9)
    assert tsallis(p, q, index=1) == kl(p, q)
    assert tsallis(p, q, index=1 + 1e-7).item() == pytest.approx(kl(p, q).item(), rel=1e-4, abs=1e-6)


def test_the_worked_example():
    halves, uneven = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    assert chi2(halves, uneven).item() == pytest.approx(16 / 9, rel=1e-5)
    assert kl(halves, uneven).item() == pytest.approx(math.log(5 / 3), rel=1e-5)


def test_gradients_by_the_logits():
    """`p (f' - E f')`, with f' = log(p/q) for KL and 2 p/q for chi-squared; `-p (log p + H)` for the entropy."""
    generator = torch.Generator().manual_seed(1)
    logits, other = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    p, q = logits.log_softmax(-1), other.log_softmax(-1)
    mass, ratio = p.exp().detach(), (p - q).detach()

    def centred(slope):
        return mass * (slope - (mass * slope).sum())

    cases = {
        kl(p, q): centred(ratio),
        kl(q, p): mass - q.exp(),
        entropy(p): centred(-p.detach()),
        chi2(p, q): centred(2 * ratio.exp()),
        sqrt_chi2(p, q): centred(ratio.exp()) / chi2(p, q).detach().sqrt(),
        tsallis(p, q, index=1.5): centred(1.5 / 0.5 * (0.5 * ratio).exp()),
    }
    for value, expected in cases.items():
        (found,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-12)


def test_equal_distributions_are_0_apart_with_no_slope():
    logits = torch.tensor([0.3, -1.0, 2.0], requires_grad=True)
    p, q = logits.log_softmax(-1), logits.detach().log_softmax(-1)
    for value in (kl(p, q), chi2(p, q), sqrt_chi2(p, q), tsallis(p, q, index=2)):
        (slope,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert value == 0
        assert slope.abs().max() < 1e-6


def test_what_the_policy_never_does_costs_nothing_and_what_the_reference_never_does_everything():
    some = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64).log().requires_grad_()
    more = torch.tensor([0.25, 0.5, 0.25, 0.0], dtype=torch.float64).log()
    assert kl(some, more).item() == pytest.approx(0.5 * math.log(2))
    assert entropy(some).item() == pytest.approx(math.log(2))
    assert chi2(some, more).item() == pytest.approx(0.25 + 0.25)
    assert tsallis(some, more, index=2).item() == pytest.approx(0.5)
    for value in (kl(some, more), entropy(some), chi2(some, more), tsallis(some, more, index=2)):
        assert torch.autograd.grad(value, some, retain_graph=True)[0].isfinite().all()
    for value in (kl(more, some), chi2(more, some), tsallis(more, some, index=2)):
        assert value == math.inf


def test_leading_dimensions_are_batches():
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 3, 4, 5, generator=generator).log_softmax(-1)
    for function in (kl, chi2, sqrt_chi2):
        assert torch.allclose(function(p, q)[1, 2], function(p[1, 2], q[1, 2]))


@pytest.mark.parametrize("index", [0, -1.0, math.nan])
def test_an_index_must_be_positive(index):
    with pytest.raises(RecipeError, match="index must be positive"):
        tsallis(torch.zeros(1), torch.zeros(1), index=index)
