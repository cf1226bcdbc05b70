"""H-DPO: its identities with DPO, and the policies it asks for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tabular_pairs import bradley_terry, distribution, labelled, learned, minimiser, some

from trueup.objectives import DPO, HDPO
from trueup.objectives.example import two_preferences
from trueup.types import PolicyBatch

BETA = 0.8


def test_alpha_one_is_dpo():
    batch = two_preferences()
    # Powers of two, so that both ways of adding up round alike.
    ours, theirs = (term(batch, {}).values for term in (HDPO(alpha=1.0, beta=0.5), DPO(beta=0.5)))
    assert torch.equal(ours, theirs)
    slopes = [torch.autograd.grad(values.sum(), batch.logprob)[0] for values in (ours, theirs)]
    assert torch.equal(*slopes)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 1.7])
def test_it_is_dpo_with_other_strength_and_tempered_reference(alpha):
    batch = two_preferences()
    tempered = replace(batch, reference=batch.reference / alpha)
    ours, theirs = HDPO(alpha=alpha, beta=0.3)(batch, {}), DPO(beta=alpha * 0.3)(tempered, {})
    assert torch.allclose(ours.values, theirs.values, rtol=1e-12)
    # And not DPO with another strength alone.
    assert not torch.allclose(ours.values, DPO(beta=alpha * 0.3)(batch, {}).values, rtol=1e-2)


def test_at_the_reference_the_loss_depends_on_the_reference():
    """The logit is (alpha - 1) beta (log pi_ref(y_w) - log pi_ref(y_l)); the example's differ by -log 4 and log 4."""
    batch = two_preferences()
    batch = replace(batch, logprob=batch.reference)
    logits = [(0.8 - 1) * 0.5 * difference for difference in (-math.log(4), math.log(4))]
    expected = [math.log1p(math.exp(-logit)) for logit in logits]
    assert HDPO(alpha=0.8, beta=0.5)(batch, {}).values.tolist() == pytest.approx(expected)


def test_its_gradient_by_hand():
    """-sigmoid(-u) alpha beta for each token of the chosen response, and the negative for the rejected one."""
    batch = two_preferences()
    loss = HDPO(alpha=0.8, beta=0.5)(batch, {})
    (slope,) = torch.autograd.grad(loss.values.sum(), batch.logprob)
    size = torch.sigmoid(-loss.metrics["rewards/margins"]) * 0.8 * 0.5
    assert torch.allclose(slope, torch.stack([-size[0], -size[0], size[0], -size[1], size[1], size[1]]))


@pytest.mark.parametrize("alpha", [0.6, 0.9, 1.0, 1.4])
def test_the_minimiser_is_the_tempered_optimum(alpha):
    reference, reward = distribution(0), some(1)
    policy = learned(HDPO(alpha=alpha, beta=BETA), labelled(bradley_terry(reward), reference), reference)
    assert torch.allclose(policy, ((reference + reward / BETA) / alpha).log_softmax(0), atol=1e-7)

    def regret(logprob):
        p = logprob.exp()
        return BETA * (p * (alpha * logprob - reference)).sum() - (p * reward).sum()

    assert torch.allclose(policy, minimiser(regret), atol=1e-6)


def entropy(logprob):
    return -(logprob.exp() * logprob).sum().item()


def test_entropy_of_the_optimum_grows_with_alpha():
    reference = distribution(0)
    for reward in (torch.zeros(4, dtype=torch.float64), some(1)):
        weight = labelled(bradley_terry(reward), reference)
        found = [entropy(learned(HDPO(alpha=alpha, beta=BETA), weight, reference)) for alpha in (0.7, 0.9, 1.0, 1.2)]
        assert found == sorted(found)
        if not reward.any():
            assert found[1] < entropy(reference) - 1e-3
            assert found[2] == pytest.approx(entropy(reference))
            assert found[3] > entropy(reference) + 1e-3


X = np.linspace(-8, 8, 801)
"""From the centre of a Gaussian, in its deviations; close enough for the bend between the modes."""


def log_normal(x, mean, deviation):
    return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))


def divergence(shape, alpha):
    """D_alpha of a Gaussian from two modes: its mean implied reward at beta 1, by the objective itself."""
    mean, deviation = shape[0], math.exp(shape[1])
    at = mean + deviation * X
    own = log_normal(at, mean, deviation)
    mixture = np.logaddexp(math.log(0.4) + log_normal(at, -2, 0.8), math.log(0.6) + log_normal(at, 2, 0.8))
    everyone = torch.arange(len(X))
    batch = PolicyBatch(
        logprob=torch.from_numpy(own),
        branch=everyone,
        prompt=torch.zeros_like(everyone),
        reference=torch.from_numpy(mixture),
        pairs=everyone[:, None].expand(-1, 2),
    )
    implied = HDPO(alpha=alpha, beta=1.0)(batch, {}).metrics["rewards/chosen"].numpy()
    weight = np.exp(-0.5 * X**2)
    return float(implied @ weight / weight.sum())


@pytest.mark.parametrize(
    ("alpha", "mean", "deviation"),
    [(1.2, 0.27, 1.95), (1.0, 0.32, 1.89), (0.9, 1.96, 0.81), (0.8, 1.98, 0.74), (0.6, 1.99, 0.63)],
)
def test_a_gaussian_beside_two_modes_settles_on_one_below_alpha_one(alpha, mean, deviation):
    """The jump between 1 and 0.9 is the paper's point; values from adaptive quadrature of D_alpha."""
    starts = [(place, math.log(width)) for place in (-2, -1, 0, 1, 2) for width in (0.7, 2)]
    start = min(starts, key=lambda shape: divergence(shape, alpha))
    best = minimize(divergence, start, args=(alpha,), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x
    assert best[0] == pytest.approx(mean, abs=0.006)
    assert math.exp(best[1]) == pytest.approx(deviation, abs=0.006)
