"""Log-probabilities, entropy and divergence of tokens against dense formulas, in values, gradients and memory."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.functional import logprobs
from trueup.functional.logprobs import OtherStates, read_tokens, token_logprobs

VOCABULARY = 31


def inputs(tokens: int = 23, *, dtype: torch.dtype = torch.float64, seed: int = 0):
    """States, targets and output layers of two models of different widths."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, 8, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    other = torch.randn(tokens, 5, dtype=torch.float64, generator=generator).to(dtype)
    other_weight = torch.randn(VOCABULARY, 5, dtype=torch.float64, generator=generator).to(dtype)
    targets = torch.randint(VOCABULARY, (tokens,), generator=generator)
    return hidden, weight, targets, OtherStates(other, lambda states: states @ other_weight.T)


def dense(hidden, weight, targets, other):
    """The formulas as they stand, over the whole table."""
    logp = (hidden @ weight.T).log_softmax(-1)
    logq = other.logits(other.hidden).log_softmax(-1)
    return (
        logp.gather(-1, targets[:, None])[:, 0],
        -(logp.exp() * logp).sum(-1),
        (logq.exp() * (logq - logp)).sum(-1),
    )


def read(hidden, weight, targets, other):
    found = read_tokens(hidden, targets, lambda h: h @ weight.T, vocabulary=VOCABULARY, entropy=True, other=other)
    return found.logprob, found.entropy, found.forward_kl


@pytest.mark.parametrize("entries", [10**6, VOCABULARY * 20, 1])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1, 2)])
def test_values_and_gradients_are_those_of_the_dense_formulas(entries, wanted, monkeypatch) -> None:
    monkeypatch.setattr(logprobs, "_ENTRIES", entries)
    results = []
    for how in (read, dense):
        hidden, weight, targets, other = inputs()
        values = how(hidden, weight, targets, other)
        # Every token's gradient differs, and so does that of each reading.
        slopes = torch.arange(1.0, 1.0 + values[0].numel() * 3, dtype=torch.float64).view(3, -1).cos()
        sum((values[i] * slopes[i]).sum() for i in wanted).backward()
        results.append((*(value.detach() for value in values), hidden.grad, weight.grad))
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-12, rtol=1e-12)


def test_entropy_and_divergence_are_scipys() -> None:
    hidden, weight, targets, other = inputs()
    found = read(hidden, weight, targets, other)
    p = (hidden @ weight.T).softmax(-1).detach().numpy()
    q = other.logits(other.hidden).softmax(-1).numpy()
    assert found[1].tolist() == pytest.approx(scipy.stats.entropy(p, axis=1), rel=1e-12)
    assert found[2].tolist() == pytest.approx(scipy.stats.entropy(q, p, axis=1), rel=1e-12)


def test_what_is_worked_by_hand() -> None:
    scores = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)
    other = OtherStates(torch.zeros(1, 2, dtype=torch.float64), lambda states: states)
    found = read_tokens(scores, torch.tensor([1]), lambda s: s, vocabulary=2, entropy=True, other=other)
    assert found.logprob.item() == pytest.approx(math.log(3 / 4))
    assert found.entropy.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert found.forward_kl.item() == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))


def test_no_table_of_all_tokens_is_ever_made(monkeypatch) -> None:
    monkeypatch.setattr(logprobs, "_ENTRIES", VOCABULARY * 4 * 5)
    hidden, weight, targets, other = inputs(64)
    seen: list[int] = []

    def watched(layer):
        return lambda states: (seen.append(len(states)), layer(states))[1]

    watching = OtherStates(other.hidden, watched(other.logits))
    found = read_tokens(
        hidden, targets, watched(lambda h: h @ weight.T), vocabulary=VOCABULARY, entropy=True, other=watching
    )
    (found.logprob + found.entropy + found.forward_kl).sum().backward()
    assert max(seen) == 5
    assert sum(seen) == 2 * 2 * 64  # two models, there and back; nothing is read twice in one pass


def test_only_what_was_asked_for_is_read() -> None:
    hidden, weight, targets, _ = inputs()
    found = read_tokens(hidden, targets, lambda h: h @ weight.T, vocabulary=VOCABULARY)
    assert found.entropy is None
    assert found.forward_kl is None
    assert torch.equal(found.logprob, token_logprobs(hidden, targets, lambda h: h @ weight.T, vocabulary=VOCABULARY))


def test_forbidden_tokens_have_no_share_in_anything() -> None:
    """Logits of minus infinity: entropy and divergence are those of the tokens that are left."""
    scores = torch.tensor([[1.0, -math.inf, 0.5], [0.0, 1.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([[0.0, -math.inf, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    other = OtherStates(others, lambda states: states)
    found = read_tokens(scores, torch.tensor([0, 1]), lambda s: s, vocabulary=3, entropy=True, other=other)
    p = scores[0, [0, 2]].softmax(-1).detach().numpy()
    assert found.entropy[0].item() == pytest.approx(scipy.stats.entropy(p))
    assert found.forward_kl[0].item() == pytest.approx(scipy.stats.entropy([0.5, 0.5], p))
    assert found.forward_kl[1].item() == math.inf  # the reference may say what the policy cannot
    (found.entropy.sum() + found.forward_kl[0]).backward()
    assert bool(scores.grad.isfinite().all())
    assert scores.grad[0, 1] == scores.grad[1, 2] == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_are_float32_or_wider(dtype: torch.dtype) -> None:
    hidden, weight, targets, other = inputs(dtype=dtype)
    found = read(hidden, weight, targets, other)
    assert all(value.dtype == torch.float32 for value in found)
    exact = dense(
        (hidden @ weight.T).detach().double(),
        torch.eye(VOCABULARY, dtype=torch.float64),
        targets,
        OtherStates(other.logits(other.hidden).double(), lambda states: states),
    )
    for value, expected in zip(found, exact, strict=True):
        assert torch.allclose(value.double(), expected, atol=1e-5)
    sum(value.sum() for value in found).backward()
    assert hidden.grad.dtype == dtype


@given(st.integers(0, 1000), st.floats(1e-6, 1e-2))
def test_a_small_divergence_is_not_lost_to_rounding(seed: int, step: float) -> None:
    generator = np.random.default_rng(seed)
    scores = torch.from_numpy(generator.normal(0, 3, (4, 500)).astype(np.float32))
    near = scores + step * torch.from_numpy(generator.normal(size=(4, 500)).astype(np.float32))
    other = OtherStates(scores, lambda states: states)
    found = read_tokens(near, torch.zeros(4, dtype=torch.long), lambda s: s, vocabulary=500, other=other).forward_kl
    q, p = scores.double().softmax(-1).numpy(), near.double().softmax(-1).numpy()
    assert found.double().numpy() == pytest.approx(scipy.stats.entropy(q, p, axis=1), abs=1e-7, rel=5e-3)


@given(st.integers(0, 1000))
def test_entropy_lies_between_none_and_that_of_the_uniform_distribution(seed: int) -> None:
    hidden, weight, targets, other = inputs(seed=seed)
    _, entropy, divergence = read(hidden, weight, targets, other)
    assert bool((entropy > 0).all())
    assert bool((entropy < math.log(VOCABULARY)).all())
    assert bool((divergence > 0).all())
