"""Drawing replies: each prompt is read once for all its replies, and a reply that has ended costs nothing more."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.errors import RecipeError
from trueup.models import attention
from trueup.models.decoding import DecodeCache
from trueup.models.policy import PolicyModel

logger = logging.getLogger(__name__)

# Rows that have ended are carried along until so few of a rectangle are left; moving the others costs a copy.
_WORTH_MOVING = 0.8


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


@dataclass(frozen=True)
class Reply:
    """One drawn reply.

    Args:
        ids: Tokens drawn, the end-of-sequence token included.
        finished: Whether that token was drawn.
        logprob: Sum of the tokens' log-probabilities under the distribution drawn from, in nats.
    """

    ids: tuple[int, ...]
    finished: bool
    logprob: float


def uniforms(prompt: Sequence[int], *, count: int, tokens: int, seed: int) -> Float[np.ndarray, "count tokens"]:
    """The random numbers of a prompt's replies, a function of seed, prompt and reply number alone."""
    digest = hashlib.sha256(np.asarray(prompt, np.int64).tobytes()).digest()
    generator = np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])
    return generator.random((count, tokens))


@torch.inference_mode()
def draw(
    model: PolicyModel, prompts: Sequence[Sequence[int]], count: int, *, sampling: Sampling, seed: int, first: int = 0
) -> list[list[Reply]]:
    """Draw `count` replies to each of a few prompts at once.

    Args:
        model: The policy; its attention must go through transformers' interface (`model.sharing` says so).
        prompts: Token ids of each prompt, at least one.
        count: Replies to each.
        sampling: How.
        seed: Seed of the draws; a reply does not depend on what is drawn beside it, but for rounding.
        first: Number of the first reply drawn here, where earlier ones exist already.
    """
    ends = ends_of(model)
    room = sampling.max_new_tokens
    chance = np.stack([uniforms(ids, count=first + count, tokens=room, seed=seed)[first:] for ids in prompts])
    state = _Rectangle(prompts, count, chance, device=model.device)
    with _decoding(model):
        logits = state.read_prompts(model)
        for number in range(room):
            token, logprob = pick(logits, state.chance(number), sampling=sampling)
            state.record(token, logprob, ended=torch.isin(token, ends))
            if not state.shrink() or number == room - 1:
                break
            logits = state.step(model)
    return state.replies()


class _Rectangle:
    """Replies that are still being drawn, prompts times replies, and what has been drawn."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], count: int, chance: np.ndarray, *, device: torch.device
    ) -> None:
        self.prompts, self.device = prompts, device
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        self.cache = DecodeCache(lengths, count=count, room=chance.shape[2])
        self._chance = torch.from_numpy(chance).to(device)
        self.ids = torch.zeros(chance.shape, dtype=torch.long, device=device)
        self.total = torch.zeros(chance.shape[:2], dtype=torch.float64, device=device)
        self.length = torch.zeros(chance.shape[:2], dtype=torch.long, device=device)
        self.ended = torch.zeros(chance.shape[:2], dtype=torch.bool, device=device)
        self.row = torch.arange(len(prompts), device=device)[:, None].expand(-1, count)
        self.column = torch.arange(count, device=device)[None].expand(len(prompts), -1)

    def read_prompts(self, model: PolicyModel) -> Float[Tensor, "b v"]:
        """Read all prompts; logits of every reply's first token."""
        grid = torch.zeros(len(self.prompts), max(map(len, self.prompts)), dtype=torch.long, device=self.device)
        for number, ids in enumerate(self.prompts):
            grid[number, : len(ids)] = torch.as_tensor(list(ids), device=self.device)
        position = torch.arange(grid.shape[1], device=self.device)[None].expand(len(grid), -1)
        states = _run(model, grid, position, self.cache)
        last = states[torch.arange(len(grid), device=self.device), self.cache.lengths - 1]
        return model.logits(last).repeat_interleave(self.cache.count, dim=0)

    def chance(self, number: int) -> Float[Tensor, " b"]:
        """Random numbers of the next tokens."""
        return self._chance[self.row, self.column, number].flatten()

    def record(self, token: Int[Tensor, " b"], logprob: Float[Tensor, " b"], *, ended: Tensor) -> None:
        """Keep what was drawn for replies that had not ended before."""
        shape = self.row.shape
        self.token = token.view(shape)
        going = ~self.ended[self.row, self.column]
        at = self.row[going], self.column[going]
        self.ids[(*at, self.length[at])] = self.token[going]
        self.length[at] += 1
        self.total[at] += logprob.view(shape)[going].double()
        self.ended[at] = ended.view(shape)[going]

    def shrink(self) -> bool:
        """Let ended replies leave, where that is worth a copy; whether any reply goes on."""
        self.cache.drawn += 1
        going = ~self.ended[self.row, self.column]
        most = int(going.sum(1).max())
        kept = going.any(1).nonzero()[:, 0]
        if not len(kept) or len(kept) * most > _WORTH_MOVING * going.numel():
            return bool(len(kept))
        order = (~going[kept]).long().argsort(dim=1, stable=True)[:, :most]
        at = kept[:, None], order
        self.row, self.column, self.token = self.row[at], self.column[at], self.token[at]
        self.cache.keep(kept, order)
        return True

    def step(self, model: PolicyModel) -> Float[Tensor, "b v"]:
        """Feed the last tokens; logits of the next."""
        states = _run(model, self.token.reshape(-1, 1), self.cache.positions, self.cache)
        return model.logits(states[:, 0])

    def replies(self) -> list[list[Reply]]:
        """Everything drawn, by prompt and number."""
        ids, length = self.ids.cpu().numpy(), self.length.cpu().numpy()
        ended, total = self.ended.cpu().numpy(), self.total.cpu().numpy()
        return [
            [
                Reply(tuple(ids[p, k, : length[p, k]].tolist()), bool(ended[p, k]), float(total[p, k]))
                for k in range(ids.shape[1])
            ]
            for p in range(len(ids))
        ]


def _run(model: PolicyModel, ids: Tensor, position: Tensor, cache: DecodeCache) -> Float[Tensor, "b s d"]:
    # The 4-D placeholder keeps transformers from building a mask of its own.
    mask = ids.new_ones(1, 1, 1, 1, dtype=torch.bool)
    states: Tensor = model.core.base_model(
        ids, position_ids=position, attention_mask=mask, use_cache=False, decode=cache
    )[0]
    return states


def pick(
    logits: Float[Tensor, "b v"], chance: Float[Tensor, " b"], *, sampling: Sampling
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """One token for each row by inverting the distribution function, and its log-probability in nats."""
    if sampling.temperature == 0:
        token = logits.argmax(-1)
        return token, torch.zeros_like(chance, dtype=torch.float32)
    probability = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        probability = _nucleus(probability, sampling.top_p)
    upto = probability.cumsum(-1)
    aim = chance.to(upto.dtype)[:, None] * upto[:, -1:]
    token = torch.searchsorted(upto, aim, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
    chosen = probability.gather(-1, token[:, None])[:, 0]
    return token, chosen.log()


def _nucleus(probability: Float[Tensor, "b v"], share: float) -> Float[Tensor, "b v"]:
    """The likeliest tokens that hold a share of the probability between them, scaled to sum to one."""
    ordered, place = probability.sort(-1, descending=True)
    inside = ordered.cumsum(-1) - ordered < share
    kept = torch.zeros_like(probability).scatter_(-1, place, ordered * inside)
    return kept / kept.sum(-1, keepdim=True)


def ends_of(model: PolicyModel) -> Int[Tensor, " ends"]:
    """Tokens that end a reply."""
    found = model.core.generation_config.eos_token_id
    ends = found if isinstance(found, list) else [found]
    return torch.tensor([end for end in ends if end is not None], device=model.device)


@contextlib.contextmanager
def _decoding(model: PolicyModel) -> Iterator[None]:
    """Our attention for the time of drawing, whatever the model uses otherwise."""
    config, training = model.core.config.get_text_config(), model.pretrained.training
    before = config._attn_implementation
    attention.enable(config)
    model.pretrained.eval()
    try:
        yield
    finally:
        config._attn_implementation = before
        model.pretrained.train(training)
