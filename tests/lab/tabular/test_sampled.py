"""The discriminator, and regularisation by what it estimates."""

import math

import pytest
import torch

from trueup.divergences.occupancy import chi2, kl, normalized_return
from trueup.functional.penalties import penalize
from trueup.lab.tabular.discriminator import Discriminator, discriminator_loss, frequencies
from trueup.lab.tabular.gridworld import gridworld
from trueup.lab.tabular.regularized import PENALTIES, visits
from trueup.lab.tabular.sampled import Rounds, optimize_sampled

MU = torch.tensor([[0.5, 0.1], [0.3, 0.1]], dtype=torch.float64)
REFERENCE = torch.tensor([[0.2, 0.3], [0.1, 0.4]], dtype=torch.float64)


def test_it_converges_to_the_log_ratio():
    judge = Discriminator(torch.zeros_like(MU), learning_rate=0.05)
    loss = judge.learn(MU, REFERENCE, steps=1500)
    d = judge.logit.detach()
    assert torch.allclose(d, (MU / REFERENCE).log(), atol=1e-4)
    assert float((MU * d.expm1()).sum()) == pytest.approx(float(chi2(MU, REFERENCE)), rel=1e-3)
    assert float((MU * d).sum()) == pytest.approx(float(kl(MU, REFERENCE)), rel=1e-3)
    # At its optimum the loss is 2 log 2 less twice the Jensen-Shannon divergence.
    middle = (MU + REFERENCE) / 2
    shannon = (kl(MU, middle) + kl(REFERENCE, middle)) / 2
    assert float(loss) == pytest.approx(float(2 * math.log(2) - 2 * shannon), abs=1e-6)


def test_an_ignorant_discriminator_pays_two_bits():
    assert float(discriminator_loss(torch.zeros_like(MU), MU, REFERENCE)) == pytest.approx(2 * math.log(2))


def test_little_training_underestimates_the_ratio():
    """Which lets a policy go where the reference does not."""
    few, many = Discriminator(torch.zeros_like(MU)), Discriminator(torch.zeros_like(MU))
    few.learn(MU, REFERENCE, steps=3)
    many.learn(MU, REFERENCE, steps=500)
    truth = (MU / REFERENCE).log()
    assert (few.logit.abs() < many.logit.abs()).all()
    assert (few.logit.sign() == truth.sign()).all()


def test_frequencies_are_drawn_from_the_measure():
    both = torch.stack([MU, REFERENCE])
    found = frequencies(both, 50_000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.sum((-2, -1)), torch.ones(2).double())
    assert torch.allclose(found, both, atol=0.01)
    again = frequencies(both, 50_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found, again)


@pytest.mark.parametrize(
    ("kind", "name", "factor"),
    [("kl", "OM KL", 1.0), ("chi2", "OM chi2", 0.5), ("sqrt_chi2", "OM sqrt-chi2", 1.0), ("tv", "OM TV", 2.0)],
)
def test_with_the_exact_ratio_a_step_follows_the_exact_penalty(kind, name, factor):
    """The gradient through a whole decision process, not a single state."""
    problem, c = gridworld(), 0.4
    generator = torch.Generator().manual_seed(2)
    logits = (problem.reference.log() + torch.randn(25, 5, generator=generator).double()).requires_grad_()
    seen = visits(problem, logits.softmax(-1))
    exact = normalized_return(seen.mu, problem.mdp.proxy) - factor * c * PENALTIES[name](seen)
    (expected,) = torch.autograd.grad(exact, logits, retain_graph=True)
    mu = seen.mu.detach()
    ratio = (mu / seen.mu_reference).log()
    step = penalize(problem.mdp.proxy.flatten(), ratio.flatten(), kind=kind, coefficient=c, clip=1e9, trim=0.0,
                    weight=mu.flatten())  # fmt: skip
    (found,) = torch.autograd.grad((seen.mu * step.reward.reshape(25, 5)).sum(), logits)
    assert torch.allclose(found, expected, atol=1e-9)


def test_the_order_survives_estimation():
    problem = gridworld()
    usual = float(normalized_return(problem.mdp.occupancy(problem.reference), problem.mdp.true))
    rounds = Rounds(rounds=200, learning_rate=0.2, samples=1000)
    root = optimize_sampled(problem, "sqrt_chi2", coefficients=[0.05, 0.15], rounds=rounds)
    plain = optimize_sampled(problem, "kl", coefficients=[0.0, 0.15], rounds=rounds)
    assert float(plain.true[0]) < 0.05
    assert float(root.true.max()) > float(plain.true.max()) > usual
    assert len(root.clipped) == 2
    assert all(0 <= share <= 1 for share in root.clipped)
    again = optimize_sampled(problem, "sqrt_chi2", coefficients=[0.05, 0.15], rounds=Rounds(rounds=3))
    same = optimize_sampled(problem, "sqrt_chi2", coefficients=[0.05, 0.15], rounds=Rounds(rounds=3))
    assert torch.equal(again.true, same.true)
