"""What trained policies say on prompts that they have not learned from: samples at a temperature, and likelihoods."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from trueup.data.fingerprint import prompt_record
from trueup.data.rows import Prompt, Row
from trueup.errors import DataError
from trueup.files import cache_folder
from trueup.lab.fitting import quietly
from trueup.lab.kept_arrays import read_arrays, write_arrays
from trueup.lab.offline_runs import weights_key
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.models.reading import logprobs
from trueup.policies.model import ModelPolicy
from trueup.train.prepare import prepare_replies

Array = np.ndarray

# Raised when the same plan would give other samples.
_VERSION = 1
_TOKEN_BUDGET = 8_192


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How responses are drawn.

    Args:
        samples: Responses to each prompt.
        temperature: Divides the logits.
        max_new_tokens: Length at which a response is cut.
        seed: Seed of the draws.
    """

    samples: int = 64
    temperature: float = 1.0
    max_new_tokens: int = 64
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Responses of a policy.

    Args:
        texts: What they say, by prompt.
        ids: Token ids of all of them, one response after another, ends included.
        tokens: Length of each.
        finished: Whether the policy ended it itself.
        logprob: Log-probability under the distribution drawn from, nats, summed over its tokens.
        policy_logprob: The same under the policy at temperature 1.
    """

    texts: tuple[tuple[str, ...], ...]
    ids: Int[Array, " all"]
    tokens: Int[Array, "prompts samples"]
    finished: Bool[Array, "prompts samples"]
    logprob: Float[Array, "prompts samples"]
    policy_logprob: Float[Array, "prompts samples"]

    @property
    def entropy(self) -> float:
        """Entropy of whole responses as they were drawn, nats: the mean of minus their log-probability."""
        return float(-self.logprob.mean())


def draw_from(policy: Path, prompts: Sequence[Prompt], how: Drawing, *, folder: Path | None = None) -> Draws:
    """Draw responses, or read those that the same policy gave before.

    Args:
        policy: Folder of the policy.
        prompts: What it is asked.
        how: How.
        folder: Where draws are kept; the user's cache folder by default.
    """
    asked = [prompt_record(prompt) for prompt in prompts]
    parts = [_VERSION, weights_key(policy), asked, asdict(how)]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
    path = (folder or cache_folder() / "lab") / "draws" / f"{key}.npz"
    known = _read(path)
    if known is None:
        known = _draw(policy, prompts, how)
        _write(path, known)
    return known


def _draw(policy: Path, prompts: Sequence[Prompt], how: Drawing) -> Draws:
    sampling = Sampling(max_new_tokens=how.max_new_tokens, temperature=how.temperature)
    with quietly():
        known = load_policy_checkpoint(policy, dtype=torch.float32)
    source = ModelPolicy(checkpoint=known, name="policy", sampling=sampling)
    _, drawn = source.draw(prompts, how.samples, seed=how.seed)
    return Draws(
        texts=tuple(tuple(source.texts(prompt, group)) for prompt, group in zip(prompts, drawn, strict=True)),
        ids=np.asarray([token for group in drawn for one in group for token in one.ids], np.int32),
        tokens=np.asarray([[len(one.ids) for one in group] for group in drawn]),
        finished=np.asarray([[one.finished for one in group] for group in drawn]),
        logprob=np.asarray([[one.logprobs.sum(dtype=np.float64) for one in group] for group in drawn]),
        policy_logprob=np.asarray([[one.policy_logprobs.sum(dtype=np.float64) for one in group] for group in drawn]),
    )


def verify(
    draws: Draws, prompts: Sequence[Prompt], judge: Callable[[str, str], bool]
) -> Bool[Array, "prompts samples"]:
    """Which responses are right: ended by the policy, and right by the judge, who is given prompt and response."""
    if len(prompts) != len(draws.texts):
        raise DataError(f"{len(prompts)} prompts for the responses to {len(draws.texts)}", expected="those drawn for")
    right = [[judge(str(prompt), text) for text in group] for prompt, group in zip(prompts, draws.texts, strict=True)]
    return np.asarray(right, bool) & draws.finished


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """How probable a policy finds given responses.

    Args:
        logprob: Nats, summed over the tokens of each, all rows' responses one after another.
        tokens: Length of each, its end included.
    """

    logprob: Float[Array, " responses"]
    tokens: Int[Array, " responses"]

    @property
    def loss(self) -> float:
        """Teacher-forced loss: nats per token, over all tokens."""
        return float(-self.logprob.sum() / self.tokens.sum())


def likelihoods(policy: Path, rows: Sequence[Row]) -> Likelihoods:
    """Log-probabilities of all responses of some rows.

    Raises:
        DataError: A row is longer than the policy reads.
    """
    with quietly():
        known = load_policy_checkpoint(policy, dtype=torch.float32)
    prepared = prepare_replies(rows, tokenizer=known.tokenizer, form=known.form)
    if prepared.dropped:
        first = prepared.dropped[0]
        raise DataError(f"{first.reason}: {first.detail}", file=first.origin.file, row=first.origin.row)
    read = [prepared.dataset[i] for i in range(len(prepared.dataset))]
    values = logprobs(known.model, read, token_budget=_TOKEN_BUDGET)
    lengths = [length for row in read for length in row.branch_lengths]
    parts = torch.split(torch.cat(values), lengths)
    return Likelihoods(
        logprob=np.asarray([float(part.double().sum()) for part in parts]),
        tokens=np.asarray(lengths),
    )


_ARRAYS = ("ids", "tokens", "finished", "logprob", "policy_logprob")


def _read(path: Path) -> Draws | None:
    known = read_arrays(path, _ARRAYS)
    return None if known is None else Draws(texts=tuple(map(tuple, known[1])), **known[0])


def _write(path: Path, draws: Draws) -> None:
    write_arrays(path, {name: getattr(draws, name) for name in _ARRAYS}, draws.texts)
