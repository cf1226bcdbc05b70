"""Choosing each reply's next token from its logits, with random numbers that are given."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.errors import RecipeError

# Tokens that are summed at once; sums are made in parallel, running sums are not.
_BLOCK = 128
# Logits that are looked at together on a CPU: a table that fits its cache is gone over several times for little.
_CACHED = 2**20


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How replies are drawn.

    Args:
        max_new_tokens: Length at which a reply is cut.
        temperature: Divides the logits; 0 always takes the likeliest token.
        top_p: Share of probability, from the likeliest token down, that is drawn from.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise RecipeError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0:
            raise RecipeError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p must lie in (0, 1], got {self.top_p}")


class Picked(NamedTuple):
    """The next token of each row.

    Args:
        token: Its id.
        logprob: Log-probability under the distribution drawn from, in nats.
        policy_logprob: Log-probability under the policy itself, at temperature 1 and with all tokens allowed.
    """

    token: Int[Tensor, " b"]
    logprob: Float[Tensor, " b"]
    policy_logprob: Float[Tensor, " b"]


def pick(logits: Float[Tensor, "b v"], chance: Float[Tensor, " b"], *, sampling: Sampling) -> Picked:
    """One token for each row, by inverting the distribution function at a number in [0, 1)."""
    rows = len(logits) if logits.is_cuda else max(_CACHED // logits.shape[-1], 1)
    parts = zip(torch.split(logits, rows), torch.split(chance, rows), strict=True)
    found = [_pick(part, aim, sampling) for part, aim in parts]
    return found[0] if len(found) == 1 else Picked(*map(torch.cat, zip(*found, strict=True)))


def _pick(logits: Float[Tensor, "b v"], chance: Float[Tensor, " b"], sampling: Sampling) -> Picked:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if sampling.temperature == 0:
        token = logits.argmax(-1)
        own = _at(logits, token) - logits.logsumexp(-1)
        return Picked(token, torch.zeros_like(own), own)
    scores = logits if sampling.temperature == 1 else logits / sampling.temperature
    top = scores.amax(-1, keepdim=True)
    mass = _masses(scores, top)
    if sampling.top_p < 1:
        mass = _nucleus(mass, sampling.top_p)
    token, total = _invert(mass, chance)
    token = token.clamp_max(scores.shape[-1] - 1)
    logprob = _at(scores, token) - top[:, 0] - total.log().to(scores.dtype)
    if sampling.temperature == 1 and sampling.top_p == 1:
        return Picked(token, logprob, logprob)
    return Picked(token, logprob, _at(logits, token) - logits.logsumexp(-1))


def _at(table: Float[Tensor, "b v"], token: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return table.gather(-1, token[:, None])[:, 0]


def _masses(scores: Float[Tensor, "b v"], top: Float[Tensor, "b 1"]) -> Float[Tensor, "b w"]:
    """exp(score - top), with zeros behind that fill the last block."""
    size = scores.shape[-1]
    width = -(-size // _BLOCK) * _BLOCK
    if width == size:
        return (scores - top).exp_()
    mass = scores.new_empty(len(scores), width)
    mass[:, size:] = 0
    torch.sub(scores, top, out=mass[:, :size])
    mass[:, :size].exp_()
    return mass


def _invert(mass: Float[Tensor, "b w"], chance: Float[Tensor, " b"]) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """The first token whose running sum of masses exceeds a share of their total; and that total."""
    blocks = mass.view(len(mass), -1, _BLOCK)
    upto = blocks.sum(-1).double().cumsum(-1)
    total = upto[:, -1]
    aim = _below(chance.double() * total, total)
    # Within bounds even where masses are NaN, so that the log-probability can say so.
    block = torch.searchsorted(upto, aim[:, None], right=True).clamp_max(upto.shape[1] - 1)
    before = torch.where(block > 0, upto.gather(-1, (block - 1).clamp_min(0)), 0.0)[:, 0]
    inside = blocks[torch.arange(len(mass), device=mass.device), block[:, 0]].double().cumsum(-1)
    rest = _below(aim - before, inside[:, -1])
    return (block * _BLOCK + torch.searchsorted(inside, rest[:, None], right=True))[:, 0], total


def _below(aim: Float[Tensor, " b"], total: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Less than the total, whatever was rounded: the token found is then one that has mass."""
    return torch.minimum(aim, torch.nextafter(total, torch.zeros_like(total)))


def _nucleus(mass: Float[Tensor, "b w"], share: float) -> Float[Tensor, "b w"]:
    """The likeliest tokens that hold a share of the mass between them; nothing of the others."""
    ordered, place = mass.sort(-1, descending=True)
    upto = ordered.cumsum(-1)
    inside = upto - ordered < share * upto[:, -1:]
    return torch.zeros_like(mass).scatter_(-1, place, ordered * inside)
