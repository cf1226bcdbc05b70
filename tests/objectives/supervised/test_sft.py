"""The loss of supervised fine-tuning."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.step import Step, reduce_loss, statistics
from trueup.types import Coupled, Loss, PolicyBatch, PolicyObjective

LOSS = NegativeLogLikelihood()


def batch(logprob: torch.Tensor, lengths: list[int]) -> PolicyBatch:
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return PolicyBatch(logprob=logprob, branch=branch, prompt=torch.arange(len(lengths)))


def reduced(logprobs: list[torch.Tensor], units: int) -> float:
    """The loss of a step of so many tokens whose micro-batches are given."""
    step = Step(rows=[], units={"token": units})
    parts = [batch(one, [len(one)]) for one in logprobs]
    sums = statistics([LOSS], parts, add=lambda tensor: tensor)
    return sum(float(reduce_loss(step, [LOSS], part, sums)) for part in parts)


def test_each_token_costs_what_it_surprises():
    """Of probability 1/2, 1/4 and 1: log 2, log 4 and nothing; on average log 2, in nats."""
    loss = LOSS(batch(torch.tensor([0.5, 0.25, 1.0], dtype=torch.float64).log(), [2, 1]), {})
    assert isinstance(loss, Loss)
    assert loss.values.tolist() == pytest.approx([math.log(2), math.log(4), 0.0])
    assert loss.mask is None
    assert float(loss.values.mean()) == pytest.approx(math.log(2))


def test_it_is_the_cross_entropy_of_the_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (7,), generator=generator)
    logprob = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    ours = LOSS(batch(logprob, [3, 4]), {}).values.mean()
    theirs = torch.nn.functional.cross_entropy(logits, targets)
    assert torch.allclose(ours, theirs, atol=1e-12)
    for found, expected in zip(
        torch.autograd.grad(ours, logits, retain_graph=True), torch.autograd.grad(theirs, logits), strict=True
    ):
        assert torch.allclose(found, expected, atol=1e-12)


def test_every_token_pulls_alike():
    logprob = torch.tensor([-0.1, -3.0, -7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: LOSS(batch(values, [3]), {}).values, logprob)
    (gradient,) = torch.autograd.grad(LOSS(batch(logprob, [1, 2]), {}).values.sum(), logprob)
    assert gradient.tolist() == [-1.0, -1.0, -1.0]


@given(parts=st.lists(st.lists(st.floats(-50, 0), max_size=6), min_size=1, max_size=5).filter(lambda parts: any(parts)))
def test_a_step_is_the_mean_over_all_its_tokens_however_it_is_cut(parts):
    """Long replies weigh more than short ones; a part without tokens adds nothing."""
    tensors = [torch.tensor(part, dtype=torch.float64) for part in parts]
    flat = [value for part in parts for value in part]
    expected = -sum(flat) / len(flat)
    assert reduced(tensors, len(flat)) == pytest.approx(expected, abs=1e-12)
    assert reduced([torch.cat(tensors)], len(flat)) == pytest.approx(expected, abs=1e-12)


def test_it_keeps_the_contract_of_objectives():
    assert isinstance(LOSS, PolicyObjective)
    assert not isinstance(LOSS, Coupled)
    assert LOSS.unit == "token"
    assert NegativeLogLikelihood() == LOSS
    for dtype in (torch.float32, torch.float64):
        assert LOSS(batch(torch.tensor([-1.0, -2.0], dtype=dtype), [2]), {}).values.dtype == dtype
