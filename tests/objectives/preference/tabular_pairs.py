"""Policies over a few responses, of one token each: every pair can be listed, and every optimum found."""

import numpy as np
import torch
from scipy.optimize import minimize

from trueup.types import PolicyBatch

K = 4


def some(seed, *, scale=1.0, k=K):
    """Numbers of a seed of their own."""
    return scale * torch.randn(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distribution(seed, *, scale=0.7):
    """Log-probabilities of the responses."""
    return some(seed, scale=scale).log_softmax(0)


def every_pair(logprob, reference, *, previous=None, reward=None):
    """All ordered pairs of the responses to one prompt, row by row."""
    k = len(logprob)
    return PolicyBatch(
        logprob=logprob,
        branch=torch.arange(k),
        prompt=torch.zeros(k, dtype=torch.long),
        reference=reference,
        pairs=torch.cartesian_prod(torch.arange(k), torch.arange(k)),
        previous=previous,
        reward=reward,
    )


def bradley_terry(reward):
    """Probability that each response is preferred to each other one."""
    return (reward[:, None] - reward).sigmoid()


def labelled(preferred, drawn):
    """Probability of each (chosen, rejected), for two responses drawn independently and one label."""
    return 2 * drawn.exp()[:, None] * drawn.exp() * preferred


def minimiser(loss, k=K):
    """Log-probabilities of the policy, out of all, that minimises a function of them."""

    def by_logits(logits):
        return loss(logits.log_softmax(0))

    def with_gradient(numbers):
        logits = torch.tensor(numbers, requires_grad=True)
        value = by_logits(logits)
        return value.item(), torch.autograd.grad(value, logits)[0].numpy()

    def curvature(numbers):
        return torch.autograd.functional.hessian(by_logits, torch.from_numpy(numbers)).numpy()

    start = np.zeros(k)
    found = minimize(with_gradient, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-10})
    assert np.abs(found.jac).max() < 1e-8, found.message
    return torch.from_numpy(found.x).log_softmax(0)


def learned(term, weight, reference, **batch):
    """The policy that minimises a term's mean over pairs of the given probabilities."""

    def mean(logprob):
        return (weight.flatten() * term(every_pair(logprob, reference, **batch), {}).values).sum()

    return minimiser(mean)
