"""A causal language model as a policy."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from trueup.data.replies import encode_prompts, render_reply
from trueup.data.rows import Prompt
from trueup.models.generation import Reply, Sampling, draw
from trueup.models.plain_generation import can_draw, draw_with_transformers
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.models.side_files import folder_of_model
from trueup.policies.base import Sample

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ModelPolicy:
    """Samples from a causal language model, each prompt read once for all its responses.

    Template, special tokens and length are those stored with the model. A sample depends on the seed, its prompt and
    its number alone, but for rounding.

    Args:
        checkpoint: The model with its tokenizer and text format.
        name: What reports call it.
        sampling: Temperature, length limit, and so on.
        token_budget: Token slots of keys and values held at a time, prompts and replies together.
        progress: Whether a progress bar is shown.
    """

    checkpoint: PolicyCheckpoint
    name: str
    sampling: Sampling = field(default_factory=Sampling)
    token_budget: int = 65_536
    progress: bool = False
    _ours: bool | None = None

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        """Draw `count` responses to each prompt."""
        _, drawn = self.draw(prompts, count, seed=seed)
        return [self._samples(prompt, replies) for prompt, replies in zip(prompts, drawn, strict=True)]

    def draw(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> tuple[list[list[int]], list[list[Reply]]]:
        """Token ids of each prompt, and of `count` replies to each."""
        known = self.checkpoint
        asked = encode_prompts(prompts, tokenizer=known.tokenizer, form=known.form)
        drawn: list[list[Reply]] = [[] for _ in prompts]
        with tqdm(
            total=len(prompts) * count, desc=f"sample {self.name}", disable=not self.progress, leave=False
        ) as bar:
            for group, number in self._groups(asked, count):
                replies = self._draw([asked[i] for i in group], number, seed=seed, first=len(drawn[group[0]]))
                for i, one in zip(group, replies, strict=True):
                    drawn[i] += one
                bar.update(len(group) * number)
        return asked, drawn

    def _groups(self, asked: Sequence[Sequence[int]], count: int) -> Iterator[tuple[list[int], int]]:
        """Prompts to be answered together, of like length, and how many replies of each at a time."""
        room = self.sampling.max_new_tokens
        left = sorted(range(len(asked)), key=lambda i: (-len(asked[i]), i))
        while left:
            longest = len(asked[left[0]])
            at_once = max(min(count, (self.token_budget - longest) // room), 1)
            together = max(self.token_budget // (longest + room * at_once), 1)
            group, left = left[:together], left[together:]
            for done in range(0, count, at_once):
                yield group, min(at_once, count - done)

    def _draw(self, asked: Sequence[Sequence[int]], count: int, *, seed: int, first: int) -> list[list[Reply]]:
        model = self.checkpoint.model
        if self._ours is None:
            self._ours = can_draw(model, asked[0])
        how = draw if self._ours else draw_with_transformers
        return how(model, asked, count, sampling=self.sampling, seed=seed, first=first)

    def _samples(self, prompt: Prompt, replies: Sequence[Reply]) -> list[Sample]:
        return [
            Sample(text=text, tokens=len(reply.ids), finished=reply.finished, logprob=reply.logprob)
            for text, reply in zip(self.texts(prompt, replies), replies, strict=True)
        ]

    def texts(self, prompt: Prompt, replies: Sequence[Reply]) -> list[str]:
        """What replies to a prompt say, without what the template puts around them."""
        lead, tail = _around_reply(prompt, self.checkpoint)
        bodies = [reply.ids[:-1] if reply.finished else reply.ids for reply in replies]
        texts = [text.removeprefix(lead) for text in _decode(bodies, self.checkpoint.tokenizer)]
        return [text.removesuffix(tail) if reply.finished else text for text, reply in zip(texts, replies, strict=True)]


def _around_reply(prompt: Prompt, known: PolicyCheckpoint) -> tuple[str, str]:
    """What the template writes before and after a reply in its turn, such as a space and a line break."""
    reply = render_reply(prompt, "violet", tokenizer=known.tokenizer, form=known.form)
    before, _, after = reply.partition("violet")
    ids = known.tokenizer([before, after], add_special_tokens=False)["input_ids"]
    lead, tail = _decode(ids, known.tokenizer)
    return lead, tail


def _decode(ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    texts: list[str] = tokenizer.batch_decode(
        [list(one) for one in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def load_model_policy(
    name: str,
    *,
    label: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    token_budget: int = 65_536,
    progress: bool = False,
    trust_remote_code: bool = False,
) -> ModelPolicy:
    """Load a policy from a model directory, a run directory of ours (its `model` is taken) or a hub id.

    Raises:
        CheckpointError: There is no causal language model at that place.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = load_policy_checkpoint(
        folder_of_model(name), dtype=dtype, device=chosen, trust_remote_code=trust_remote_code
    )
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p)
    return ModelPolicy(
        checkpoint=checkpoint,
        name=label or Path(name).name,
        sampling=sampling,
        token_budget=token_budget,
        progress=progress,
    )
