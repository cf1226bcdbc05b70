"""IFT's two losses: by hand, in their limits, and their gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.functional.propagation import future_weights
from trueup.objectives import IFT, SUPERVISED_OBJECTIVES, IFTPaper, NegativeLogLikelihood
from trueup.types import PolicyBatch

LENGTHS = [3, 1, 4]
LOSSES = st.lists(st.floats(0.01, 20), min_size=8, max_size=8)


def batch_of(losses, lengths=LENGTHS):
    logprob = -torch.as_tensor(losses, dtype=torch.float64)
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return PolicyBatch(logprob=logprob.requires_grad_(), branch=branch, prompt=torch.arange(len(lengths)))


def slope_of(term, batch):
    return torch.autograd.grad(term(batch, {}).values.sum(), batch.logprob)[0]


@given(losses=LOSSES)
def test_without_looking_ahead_each_response_has_its_mean_token_loss(losses):
    batch = batch_of(losses)
    tokens = NegativeLogLikelihood()(batch, {}).values
    expected = torch.stack([part.mean() for part in torch.split(tokens, LENGTHS)])
    assert torch.allclose(IFT(gamma=0.0)(batch, {}).values, expected)
    assert torch.allclose(slope_of(IFT(gamma=0.0), batch), torch.autograd.grad(expected.sum(), batch.logprob)[0])


@given(losses=LOSSES, gamma=st.floats(0.01, 1))
def test_it_is_the_ratio_of_sums_of_the_code(losses, gamma):
    """sum_i c_i l_i / sum_i c_i, response by response, with loops."""
    found, start = IFT(gamma=gamma)(batch_of(losses), {}).values.tolist(), 0
    for value, length in zip(found, LENGTHS, strict=True):
        own = losses[start : start + length]
        ahead = [sum(gamma ** (j - i) * own[j] for j in range(i, length)) for i in range(length)]
        assert value == pytest.approx(sum(c * x for c, x in zip(ahead, own, strict=True)) / sum(ahead), rel=1e-9)
        start += length


def test_the_worked_example():
    assert IFT()(batch_of([1.0, 0.5, 2.0, 0.2], [4]), {}).values.item() == pytest.approx(1.0878, abs=5e-5)


def test_equal_losses_weigh_early_tokens_more_and_their_mean_is_the_loss():
    batch = batch_of([2.0] * 4, [4])
    assert IFT()(batch, {}).values.item() == pytest.approx(2.0)
    slope = -slope_of(IFT(detach=True), batch)
    assert (slope[:-1] > slope[1:]).all()
    late = -slope_of(IFTPaper(), batch)
    assert late.tolist() == [1, 2, 3, 4]


def test_the_gradient_goes_through_the_weights_unless_they_are_detached():
    losses = [1.0, 0.5, 2.0, 0.2, 1.0, 0.1, 0.4, 3.0]
    batch = batch_of(losses)
    whole, without = slope_of(IFT(), batch), slope_of(IFT(detach=True), batch)
    weights = future_weights(torch.tensor(losses, dtype=torch.float64), batch.branch, 3, gamma=0.95)
    length = torch.tensor(LENGTHS, dtype=torch.float64)[batch.branch]
    assert torch.allclose(without, -weights / length, atol=1e-12)
    assert not torch.allclose(whole, without, atol=1e-3)
    assert whole[3].item() == pytest.approx(-1.0)  # of a single token there is nothing to weigh


@pytest.mark.parametrize("term", [IFT(), IFT(gamma=0.5), IFTPaper(), IFTPaper(decay=0.9)])
def test_gradients_match_finite_differences(term):
    batch = batch_of([1.0, 0.5, 2.0, 0.2, 1.0, 0.1, 0.4, 3.0])

    def values(logprob):
        return term(PolicyBatch(logprob=logprob, branch=batch.branch, prompt=batch.prompt), {}).values

    assert torch.autograd.gradcheck(values, batch.logprob)


@given(losses=LOSSES, decay=st.floats(0, 1))
def test_the_papers_sum_of_sums(losses, decay):
    found, start = IFTPaper(decay=decay)(batch_of(losses), {}).values.tolist(), 0
    for value, length in zip(found, LENGTHS, strict=True):
        own = losses[start : start + length]
        twice = sum(decay ** (i - n) * own[i] for n in range(length) for i in range(n, length))
        assert value == pytest.approx(twice, rel=1e-9)
        start += length


@given(losses=LOSSES)
def test_without_decay_the_papers_weights_count_up(losses):
    found = IFTPaper()(batch_of(losses, [8]), {}).values
    assert found.item() == pytest.approx(sum((i + 1) * x for i, x in enumerate(losses)), rel=1e-9)


@pytest.mark.parametrize("name", ["mix", "gamma"])
@pytest.mark.parametrize("value", [-0.1, 1.01])
def test_shares_are_checked(name, value):
    with pytest.raises(RecipeError, match=rf"{name} must lie in \[0, 1\]"):
        IFT(**{name: value})
    other = "decay" if name == "gamma" else name
    with pytest.raises(RecipeError, match=rf"{other} must lie in \[0, 1\]"):
        IFTPaper(**{other: value})


def test_the_table_is_complete():
    assert list(SUPERVISED_OBJECTIVES) == ["sft", "ift", "ift_paper"]
    assert [getattr(kind(), "mix", 0.0) for kind in SUPERVISED_OBJECTIVES.values()] == [0.0, 0.2, 0.2]
