"""The head that tells a prompt's value: padding, bounds, and what it starts at."""

import pytest
import torch

from trueup.errors import RecipeError
from trueup.models.heads.prompt_value import PromptValueHead


def make(width=24, reward_max=5.0, **options):
    return PromptValueHead(width, reward_max=reward_max, generator=torch.Generator().manual_seed(3), **options)


def states(*lengths, width=24):
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(len(lengths), max(lengths), width, generator=generator)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return found, real


@torch.no_grad()
def by_hand(head, one):
    """Attention of the query over one prompt's states, head by head."""
    width, heads = one.shape[1], head.attention.num_heads
    maps, offsets = head.attention.in_proj_weight.chunk(3), head.attention.in_proj_bias.chunk(3)
    query = head.query @ maps[0].T + offsets[0]
    keys, values = one @ maps[1].T + offsets[1], one @ maps[2].T + offsets[2]
    size = width // heads
    parts = []
    for k in range(heads):
        own = slice(k * size, (k + 1) * size)
        weight = (keys[:, own] @ query[own] / size**0.5).softmax(0)
        parts.append(weight @ values[:, own])
    found = torch.cat(parts) @ head.attention.out_proj.weight.T + head.attention.out_proj.bias
    return head.reward_max * torch.sigmoid(found @ head.read.weight[0] + head.read.bias[0])


def test_it_is_masked_attention_by_one_query():
    head = make().eval()
    given_states, real = states(5, 2, 1)
    found = head(given_states, real)
    for value, one, mask in zip(found, given_states, real, strict=True):
        assert value.item() == pytest.approx(by_hand(head, one[mask]).item(), rel=1e-5)


def test_padding_says_nothing():
    head = make().eval()
    given_states, real = states(5, 2)
    other = torch.where(real[..., None], given_states, 1e3)
    with torch.no_grad():
        assert torch.allclose(head(given_states, real), head(other, real), rtol=1e-6)
        alone = head(given_states[1:, :2], real[1:, :2])
        assert torch.allclose(alone, head(given_states, real)[1:], rtol=1e-6)


@pytest.mark.parametrize("reward_max", [0.1, 5.0, 100.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_values_lie_between_zero_and_the_largest_reward(scale, reward_max):
    head = make(reward_max=reward_max).eval()
    given_states, real = states(4, 2)
    values = head(scale * given_states, real)
    assert ((values > 0) & (values < reward_max)).all()


@pytest.mark.parametrize(("reward", "expected"), [(2.0, 2.0), (4.9, 4.9), (0.0, 0.005), (5.0, 4.995)])
def test_it_starts_at_a_reward(reward, expected):
    head = make().eval()
    head.start_at(reward)
    assert head(*states(4, 2)).tolist() == pytest.approx([expected] * 2, rel=1e-4)


@pytest.mark.parametrize(("width", "heads"), [(24, 8), (32, 8), (36, 6), (10, 5), (7, 7), (11, 1)])
def test_heads_divide_the_width(width, heads):
    assert make(width).attention.num_heads == heads


def test_dropout_is_off_in_evaluation_only():
    head = make(dropout=0.5)
    given_states, real = states(5, 4)
    torch.manual_seed(0)
    assert not torch.equal(head(given_states, real), head(given_states, real))
    head.eval()
    assert torch.equal(head(given_states, real), head(given_states, real))


def test_weights_are_the_generators_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = make()
    assert torch.equal(torch.rand(3), expected)
    second = make()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_largest_reward_must_be_positive():
    with pytest.raises(RecipeError, match="reward_max must be positive"):
        make(reward_max=0.0)
