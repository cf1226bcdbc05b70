"""Rollouts: what a policy drew for some prompts, and what is known of every token and branch of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trueup.errors import CheckpointError
from trueup.functional.segments import last_token
from trueup.models.generation import Reply
from trueup.train.known_rows import BRANCH_FIELDS, TOKEN_FIELDS, KnownRow, with_known_branches, with_tokens
from trueup.types import PolicyBatch

__all__ = [
    "BRANCH_FIELDS",
    "TOKEN_FIELDS",
    "RolloutRow",
    "batch_of",
    "load_rows",
    "rollout_row",
    "save_rows",
    "token_rewards",
    "with_batch",
    "with_tokens",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow(KnownRow):
    """A tokenised prompt with the replies that were drawn, and what is known of them."""


def rollout_row(prompt: Sequence[int], replies: Sequence[Reply], *, index: int) -> RolloutRow:
    """The row of one prompt and its replies, with the log-probabilities that were recorded while drawing.

    Args:
        prompt: Token ids.
        replies: What was drawn.
        index: Number of the prompt.
    """
    ids = [np.asarray(part, np.int32) for part in (prompt, *(reply.ids for reply in replies))]
    behaviour = np.concatenate([reply.policy_logprobs for reply in replies])
    return RolloutRow(
        tokens=np.concatenate(ids),
        prompt_length=len(prompt),
        branch_lengths=tuple(len(reply.ids) for reply in replies),
        pairs=np.zeros((0, 2), np.int64),
        rank=np.full(len(replies), -1, np.int64),
        index=index,
        tokens_of={"behaviour": torch.from_numpy(behaviour.astype(np.float32))},
        branches_of={"finished": torch.tensor([reply.finished for reply in replies])},
    )


def batch_of(rows: Sequence[RolloutRow]) -> PolicyBatch:
    """Everything that was drawn together, as objectives prepare it; nothing carries a gradient."""
    lengths = torch.tensor([length for row in rows for length in row.branch_lengths])
    counts = torch.tensor([len(row.branch_lengths) for row in rows])
    tokens = {name: torch.cat([row.tokens_of[name] for row in rows]) for name in rows[0].tokens_of}
    branches = {name: torch.cat([row.branches_of[name] for row in rows]) for name in rows[0].branches_of}
    return PolicyBatch(
        logprob=tokens["behaviour"],
        branch=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        prompt=torch.repeat_interleave(torch.arange(len(rows)), counts),
        **tokens,
        **branches,
    )


def with_batch(rows: Sequence[RolloutRow], batch: PolicyBatch) -> list[RolloutRow]:
    """Rows that know what objectives made of them, without the branches that are not learned from."""
    counts = [len(row.branch_lengths) for row in rows]
    sizes = [sum(row.branch_lengths) for row in rows]
    tokens = _split(batch, TOKEN_FIELDS, sizes)
    branches = _split(batch, BRANCH_FIELDS, counts)
    known = [replace(row, tokens_of=t, branches_of=b) for row, t, b in zip(rows, tokens, branches, strict=True)]
    if batch.kept is None:
        return known
    chosen = zip(known, torch.split(batch.kept, counts), strict=True)
    return [with_known_branches(row, kept) for row, kept in chosen if bool(kept.any())]


def _split(batch: PolicyBatch, names: Sequence[str], sizes: Sequence[int]) -> list[dict[str, Tensor]]:
    found = {name: getattr(batch, name) for name in names}
    pieces = {name: torch.split(value, list(sizes)) for name, value in found.items() if value is not None}
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(len(sizes))]


def token_rewards(batch: PolicyBatch, *, kl_coefficient: float) -> Tensor:
    """What each token earns: minus the KL coefficient times its log-ratio, and at a branch's last token the reward.

    `r_t = -beta (log pi_old(y_t) - log pi_ref(y_t)) + 1[t = last] R`; the sum over a branch is its KL-adjusted reward.
    """
    if batch.reward is None or batch.behaviour is None:
        raise ValueError("token rewards need the reward and the log-probabilities of what was drawn")
    earned = torch.zeros_like(batch.behaviour)
    if kl_coefficient and batch.reference is not None:
        earned -= kl_coefficient * (batch.behaviour - batch.reference)
    final = last_token(batch.branch)
    earned[final] += batch.reward.to(earned.dtype)[batch.branch[final]]
    return earned


def save_rows(rows: Sequence[RolloutRow], path: Path) -> None:
    """Write rows that a step in the middle of a rollout still needs."""
    flat: dict[str, Tensor] = {}
    for i, row in enumerate(rows):
        flat[f"{i}/tokens"] = torch.from_numpy(row.tokens.astype(np.int64))
        flat[f"{i}/shape"] = torch.tensor([row.index, row.prompt_length, *row.branch_lengths])
        flat |= {f"{i}/token/{name}": value.contiguous() for name, value in row.tokens_of.items()}
        flat |= {f"{i}/branch/{name}": value.contiguous() for name, value in row.branches_of.items()}
    save_file(flat, path)


def load_rows(path: Path) -> list[RolloutRow]:
    """Read what `save_rows` wrote.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        flat = load_file(path)
    except Exception as error:  # safetensors has an exception of its own kind for each damage
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{path}: the rollouts cannot be read ({first}); delete this checkpoint to resume from an earlier one"
        ) from error
    rows = []
    for i in range(sum(name.endswith("/tokens") for name in flat)):
        index, prompt, *lengths = flat[f"{i}/shape"].tolist()
        rows.append(
            RolloutRow(
                tokens=flat[f"{i}/tokens"].numpy().astype(np.int32),
                prompt_length=prompt,
                branch_lengths=tuple(lengths),
                pairs=np.zeros((0, 2), np.int64),
                rank=np.full(len(lengths), -1, np.int64),
                index=index,
                tokens_of=_under(flat, f"{i}/token/"),
                branches_of=_under(flat, f"{i}/branch/"),
            )
        )
    return rows


def _under(flat: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in flat.items() if name.startswith(start)}
