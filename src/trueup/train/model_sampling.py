"""Responses of a model that some trainer is training, drawn without leaving a trace in the training.

This is how TRL's trainers, and any other that holds a transformers model, are watched: `GoldMonitor` asks for responses
and gets them with their log-probabilities under the policy and under the initial policy, so that KL is known exactly
for the tokens that were drawn.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trueup.data.rows import Prompt
from trueup.policies.base import Sample


@dataclass(frozen=True)
class StartedSample(Sample):
    """A sample that also says how probable the initial policy finds it.

    Args:
        start_logprob: Log-probability of the same tokens under the initial policy, nats, summed.
    """

    start_logprob: float | None = None

    @property
    def log_ratio(self) -> float | None:
        """How much more probable the policy finds it than the initial one, in nats; None where that is unknown."""
        if self.logprob is None or self.start_logprob is None:
            return None
        return self.logprob - self.start_logprob


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The initial policy, to be made before training; it shares no storage with the model.

    It is built anew from the configuration: trainers replace the `forward` of the model they hold by functions that
    still speak of that very model, and a deep copy would take these along and never differ from the model.
    """
    with torch.random.fork_rng():
        built: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    weight = next(model.parameters())
    built.to(device=weight.device, dtype=weight.dtype)
    built.load_state_dict(model.state_dict())
    return built.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class ModelSampler:
    """Draws from a transformers model at temperature 1, whatever state its trainer has it in.

    The model's mode and the generators of random numbers are put back as they were.

    Args:
        model: The model being trained.
        tokenizer: Its tokenizer.
        start: The initial policy; None switches the adapter off where the model has one, and leaves KL unknown else.
        max_new_tokens: Longest response.
        batch_size: Responses drawn at a time.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    start: PreTrainedModel | None = None
    max_new_tokens: int = 64
    batch_size: int = 64

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        """Draw `count` responses to each prompt; the same seed and weights give the same responses."""
        texts = [self._text(prompt) for prompt in prompts for _ in range(count)]
        device = next(self.model.parameters()).device
        drawn: list[Sample] = []
        with _undisturbed(self.model, device), torch.no_grad():
            torch.manual_seed(seed)
            for first in range(0, len(texts), self.batch_size):
                drawn += self._draw(texts[first : first + self.batch_size], device)
        return [drawn[first : first + count] for first in range(0, len(drawn), count)]

    def _text(self, prompt: Prompt) -> tuple[str, bool]:
        """What is tokenised, and whether special tokens are still to be added."""
        if isinstance(prompt, str):
            return prompt, True
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)), False

    def _draw(self, texts: Sequence[tuple[str, bool]], device: torch.device) -> list[Sample]:
        asked = [self.tokenizer(text, add_special_tokens=special)["input_ids"] for text, special in texts]
        longest, pad = max(map(len, asked)), self._pad()
        ids = torch.tensor([[pad] * (longest - len(one)) + one for one in asked], device=device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in asked], device=device)
        out = self.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=self.max_new_tokens, pad_token_id=pad,
            do_sample=True, temperature=1.0, top_p=1.0, top_k=0, num_return_sequences=1, use_cache=True,
        )  # fmt: skip
        replies = out[:, longest:]
        lengths, ended = self._lengths(replies)
        whole = torch.cat([mask, torch.arange(replies.shape[1], device=device)[None] < lengths[:, None]], dim=1)
        policy = _logprob(self.model, out, whole, skip=longest)
        start = self._start_logprob(out, whole, skip=longest)
        return [
            StartedSample(
                text=self.tokenizer.decode(reply[:length], skip_special_tokens=True),
                tokens=int(length),
                finished=bool(end),
                logprob=float(own),
                start_logprob=None if start is None else float(start[k]),
            )
            for k, (reply, length, end, own) in enumerate(zip(replies, lengths, ended, policy, strict=True))
        ]

    def _pad(self) -> int:
        known = self.tokenizer.pad_token_id
        return int(known if known is not None else self._ends()[0] if self._ends() else 0)

    def _ends(self) -> list[int]:
        known = self.model.generation_config.eos_token_id
        known = self.tokenizer.eos_token_id if known is None else known
        return [] if known is None else [known] if isinstance(known, int) else list(known)

    def _lengths(self, replies: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of each reply, its end included, and whether it has one."""
        ends = torch.isin(replies, torch.tensor(self._ends() or [-1], device=replies.device))
        ended = ends.any(dim=1)
        first = ends.int().argmax(dim=1) + 1
        return torch.where(ended, first, replies.shape[1]), ended

    def _start_logprob(self, ids: Tensor, mask: Tensor, *, skip: int) -> Tensor | None:
        if self.start is not None:
            return _logprob(self.start, ids, mask, skip=skip)
        if hasattr(self.model, "disable_adapter"):
            with self.model.disable_adapter():
                return _logprob(self.model, ids, mask, skip=skip)
        return None


def _logprob(model: Any, ids: Tensor, mask: Tensor, *, skip: int) -> Tensor:
    """Log-probability of what follows the first `skip` columns, in nats, summed over unmasked tokens; float32."""
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions).logits[:, skip - 1 : -1]
    each = logits.float().log_softmax(-1).gather(-1, ids[:, skip:, None])[..., 0]
    return each.masked_fill(~mask[:, skip:].bool(), 0.0).sum(dim=1)


@contextlib.contextmanager
def _undisturbed(model: Any, device: torch.device) -> Iterator[None]:
    """Evaluation mode and generators of one's own; both as before at the end."""
    training = [module for module in model.modules() if module.training]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            model.eval()
            yield
        finally:
            for module in training:
                module.training = True
