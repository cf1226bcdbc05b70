"""Drawing replies: each prompt is read once for all its replies, and a reply that has ended costs nothing more."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.models import attention
from trueup.models.decoding import DecodeCache
from trueup.models.picking import Picked, Sampling, pick
from trueup.models.policy import PolicyModel

__all__ = ["Reply", "Sampling", "cut", "draw", "ends_of", "pick", "uniforms"]

# Rows that have ended are carried along until so few of a rectangle are left; moving the others costs a copy.
_WORTH_MOVING = 0.8
# Asking a GPU how many go on makes it wait.
_LOOK_EVERY = 4


@dataclass(frozen=True)
class Reply:
    """One drawn reply.

    Args:
        ids: Tokens drawn, the end-of-sequence token included.
        finished: Whether that token was drawn.
        logprob: Sum of `logprobs`.
        logprobs: Log-probability of each token under the distribution drawn from, in nats.
        policy_logprobs: Log-probability of each token under the policy itself, at temperature 1 and with all tokens
            allowed; the same as `logprobs` when drawn so.
    """

    ids: tuple[int, ...]
    finished: bool
    logprob: float
    logprobs: Float[np.ndarray, " t"] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False)
    policy_logprobs: Float[np.ndarray, " t"] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False)


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
    room, ends = sampling.max_new_tokens, ends_of(model)
    chance = np.stack([uniforms(ids, count=first + count, tokens=room, seed=seed)[first:] for ids in prompts])
    state = _Rectangle(prompts, count, chance, device=model.device)
    with _decoding(model):
        logits = state.read_prompts(model)
        for number in range(room):
            state.record(number, pick(logits, state.chance[:, number], sampling=sampling), ends)
            if number == room - 1 or not state.shrink(number):
                break
            logits = state.step(model)
    return state.replies(ends)


class _Rectangle:
    """Replies that are still being drawn, prompts times replies, and what has been drawn."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], count: int, chance: np.ndarray, *, device: torch.device
    ) -> None:
        self.prompts, self.device = prompts, device
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        room = chance.shape[2]
        self.cache = DecodeCache(lengths, count=count, room=room)
        self.chance = torch.from_numpy(chance).to(device).flatten(0, 1)
        """Random numbers of the replies that go on."""
        self.place = torch.arange(len(self.chance), device=device)
        """Their numbers."""
        self.going = torch.ones_like(self.place, dtype=torch.bool)
        self.token = self.place
        self.drawn = 0
        self._ids = torch.zeros(room, len(self.place), dtype=torch.long, device=device)
        self._logprobs = torch.zeros(room, 2, len(self.place), device=device)

    def read_prompts(self, model: PolicyModel) -> Float[Tensor, "b v"]:
        """Read all prompts; logits of every reply's first token."""
        grid = torch.zeros(len(self.prompts), max(map(len, self.prompts)), dtype=torch.long)
        for number, ids in enumerate(self.prompts):
            grid[number, : len(ids)] = torch.as_tensor(list(ids))
        position = torch.arange(grid.shape[1], device=self.device)[None].expand(len(grid), -1)
        states = _run(model, grid.to(self.device), position, self.cache)
        last = states[torch.arange(len(grid), device=self.device), self.cache.lengths - 1]
        return model.logits(last).repeat_interleave(self.cache.count, dim=0)

    def record(self, number: int, picked: Picked, ends: Int[Tensor, " ends"]) -> None:
        """Keep the tokens drawn; what stands behind an end is cut off when all are drawn."""
        self.token, self.drawn = picked.token, number + 1
        self._ids[number, self.place] = picked.token
        self._logprobs[number, :, self.place] = torch.stack([picked.logprob, picked.policy_logprob]).float()
        self.going &= (picked.token[:, None] != ends).all(1)

    def shrink(self, number: int) -> bool:
        """Let ended replies leave, where that is worth a copy; whether any reply goes on."""
        self.cache.drawn += 1
        if self.device.type == "cuda" and (number + 1) % _LOOK_EVERY:
            return True
        going = self.going.view(len(self.cache.lengths), -1)
        counts = going.sum(1)
        most, rows = int(counts.max()), int((counts > 0).sum())
        if not rows or rows * most > _WORTH_MOVING * going.numel():
            return bool(rows)
        kept = counts.nonzero()[:, 0]
        order = (~going[kept]).long().argsort(dim=1, stable=True)[:, :most]
        at = (kept[:, None] * going.shape[1] + order).flatten()
        self.place, self.token, self.chance, self.going = (
            each[at] for each in (self.place, self.token, self.chance, self.going)
        )
        self.cache.keep(kept, order)
        return True

    def step(self, model: PolicyModel) -> Float[Tensor, "b v"]:
        """Feed the last tokens; logits of the next."""
        states = _run(model, self.token[:, None], self.cache.positions, self.cache)
        return model.logits(states[:, 0])

    def replies(self, ends: Int[Tensor, " ends"]) -> list[list[Reply]]:
        """Everything drawn, by prompt and number."""
        ids = self._ids[: self.drawn].T.cpu()
        logprobs = self._logprobs[: self.drawn].permute(1, 2, 0).cpu().numpy()
        made = [cut(one, *logprobs[:, i], ends=set(ends.tolist())) for i, one in enumerate(ids.tolist())]
        count = len(made) // len(self.prompts)
        return [made[start : start + count] for start in range(0, len(made), count)]


def cut(
    ids: Sequence[int], logprobs: Float[np.ndarray, " s"], policy_logprobs: Float[np.ndarray, " s"], *, ends: set[int]
) -> Reply:
    """The reply up to its first end token."""
    stop = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    own = np.ascontiguousarray(logprobs[:stop])
    return Reply(
        ids=tuple(ids[:stop]),
        finished=ids[stop - 1] in ends,
        logprob=float(own.sum(dtype=np.float64)),
        logprobs=own,
        policy_logprobs=np.ascontiguousarray(policy_logprobs[:stop]),
    )


def _run(model: PolicyModel, ids: Tensor, position: Tensor, cache: DecodeCache) -> Float[Tensor, "b s d"]:
    # The 4-D placeholder keeps transformers from building a mask of its own.
    mask = ids.new_ones(1, 1, 1, 1, dtype=torch.bool)
    states: Tensor = model.core.base_model(
        ids, position_ids=position, attention_mask=mask, use_cache=False, decode=cache
    )[0]
    return states


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
