"""The reward that a policy implies which was trained on preferences by DPO."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.data.rows import Origin, Prompt, Response, Row
from trueup.data.tokens import TokenTable, tokenize_rows
from trueup.endpoints.settings import build
from trueup.errors import CheckpointError, NonFiniteError, RecipeError
from trueup.models.branch_model import check_sharing
from trueup.models.plan import cut
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.rewards.base import Scores
from trueup.rewards.flat import flatten

logger = logging.getLogger(__name__)

PREFIX = "implicit:"
_LOG_ODDS = ("dpo", "cdpo", "robust_dpo")
"""Methods whose `beta (log pi - log pi_ref)` is a reward of Bradley-Terry, in nats of log-odds."""


@dataclass(frozen=True, kw_only=True)
class ImplicitPolicyReward:
    """`r(x, y) = beta (log pi(y | x) - log pi_ref(y | x))` of whole responses with their end, in nats.

    Exactly zero where the policy is its reference. It holds up to a constant for each prompt: only differences between
    responses to one prompt mean something.

    **Source** Rafailov et al., "Direct preference optimization" (arXiv 2305.18290), eq. 5.
    **Deviations**: none.

    Args:
        policy: The trained policy with its tokenizer and text format.
        reference: What it was held against; None for the policy with its adapter switched off.
        beta: Reward per nat, that of the policy's own training.
        name: What reports call it.
        token_budget: Token slots per forward pass.
    """

    policy: PolicyCheckpoint
    reference: PolicyModel | None
    beta: float
    name: str
    token_budget: int = 16_384

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise RecipeError(f"{self.name}: beta must be positive and finite, got {self.beta}")
        if self.reference is None and not isinstance(self.policy.model.pretrained, PeftModel):
            raise ValueError("a policy without an adapter needs a reference")

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i; sequences beyond the policy's length are cut as in training.

        Raises:
            DataError: A prompt has no responses, or text that the policy's format cannot take.
            NonFiniteError: A log-probability is NaN or infinite.
        """
        flat = flatten(prompts, responses)
        rows = self._tokenize(prompts, responses)
        model, lengths = self.policy.model.eval(), [length for row in rows for length in row.branch_lengths]
        check_sharing(model, rows[:2])
        own = self._logprobs(model, rows)
        if self.reference is not None:
            start = self._logprobs(self.reference.eval(), rows)
        else:
            with model.pretrained.disable_adapter():
                start = self._logprobs(model, rows)
        reward = np.asarray([float(one.sum()) for one in torch.split((own - start) * self.beta, lengths)])
        wrong = np.flatnonzero(~np.isfinite(reward))
        if len(wrong):
            raise NonFiniteError(
                f"{self.name} gives a reward of {reward[wrong[0]]} to a response in row {flat[wrong[0]].row} "
                f"({len(wrong)} in all); check the policy's and the reference's weights"
            )
        numbers = np.asarray([one.row - 1 for one in flat], int)
        return Scores(reward=reward, prompt=numbers, length=np.asarray(lengths, float))

    def _tokenize(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[BranchRow]:
        """Rows as training makes them."""
        rows = [
            Row(
                prompt=prompt,
                responses=tuple(Response(text=text) for text in group),
                id=str(i),
                origin=Origin("prompts", i + 1),
            )
            for i, (prompt, group) in enumerate(zip(prompts, responses, strict=True))
        ]
        known, limit = self.policy, self.policy.form.max_length
        table = tokenize_rows(rows, tokenizer=known.tokenizer, form=known.form, seam="reply")
        found = [_branch_row(table, i) for i in range(len(rows))]
        long = sum(row.longest > limit for row in found) if limit is not None else 0
        if long:
            logger.warning("%s: %d rows exceed %s tokens and are cut as in training", self.name, long, limit)
            table = tokenize_rows(rows, tokenizer=known.tokenizer, form=known.form, seam="reply", truncate=True)
            found = [_branch_row(table, i) for i in range(len(rows))]
        return found

    @torch.no_grad()
    def _logprobs(self, model: PolicyModel, rows: Sequence[BranchRow]) -> Tensor:
        """Log-probabilities of all response tokens, in the order of the rows."""
        found: dict[int, Tensor] = {}
        for part in cut(rows, budget=self.token_budget, sharing=model.sharing):
            tokens = model(model.layout([rows[i] for i in part])).logprob.double().cpu()
            found |= dict(zip(part, torch.split(tokens, [sum(rows[i].branch_lengths) for i in part]), strict=True))
        return torch.cat([found[i] for i in range(len(rows))]) if rows else torch.zeros(0, dtype=torch.float64)


def _branch_row(table: TokenTable, number: int) -> BranchRow:
    lengths = table.lengths(number)
    return BranchRow(
        tokens=table.ids(number),
        prompt_length=int(table.prompt_length[number]),
        branch_lengths=lengths,
        pairs=np.zeros((0, 2), np.int64),
        rank=np.full(len(lengths), -1),
        index=number,
    )


@dataclass(frozen=True, kw_only=True)
class ImplicitSettings:
    """What may follow a place as a query.

    Args:
        beta: Reward per nat; that of the policy's training by default.
        reference: Directory or hub id; by default what the policy was held against.
    """

    beta: float | None = None
    reference: str | None = None


def split_place(place: str) -> tuple[str, ImplicitSettings]:
    """Where a policy is, and the settings, of `implicit:PLACE?beta=0.1&reference=OTHER`.

    Raises:
        RecipeError: A setting is unknown, given twice, or of the wrong type.
    """
    where, _, query = place.removeprefix(PREFIX).partition("?")
    settings: dict[str, Any] = {}
    for setting in query.split("&") if query else ():
        name, equals, value = setting.partition("=")
        if not equals or name in settings:
            reason = "given twice" if equals else "without a value"
            raise RecipeError(f"{place}: `{name}` is {reason}; write implicit:PLACE?beta=0.1&reference=OTHER")
        settings[name] = value
    return where, build(ImplicitSettings, settings, place=place)


def load_implicit(
    place: str,
    *,
    name: str = "",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    token_budget: int = 16_384,
    trust_remote_code: bool = False,
) -> ImplicitPolicyReward:
    """Load the implicit reward of `implicit:PLACE`; beta and the reference are those of its training unless given.

    Raises:
        CheckpointError: The policy or its reference is not there, or they read other tokens.
        RecipeError: Beta or the reference is not known.
    """
    where, given = split_place(place)
    folder = Path(where) / "model" if (Path(where) / "model").is_dir() else Path(where)
    source = str(folder) if folder.is_dir() else where
    kinds: dict[str, Any] = {"dtype": dtype or torch.float32, "device": device, "trust_remote_code": trust_remote_code}
    policy = load_policy_checkpoint(source, **kinds)
    stated = policy.provenance.get("recipe")
    trained: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    beta = given.beta if given.beta is not None else _beta(trained, place=place)
    held = given.reference or trained.get("reference")
    reference = None
    if held is not None or not isinstance(policy.model.pretrained, PeftModel):
        held = held or (None if trained.get("from_scratch") else trained.get("model"))
        if held is None:
            raise RecipeError(f"{place}: what the policy was held against is not known; add reference=PLACE")
        found = load_policy_checkpoint(_model_in(str(held)), **kinds)
        if found.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
            raise CheckpointError(f"{held}: has another vocabulary than {where}; name a reference with the same tokens")
        reference = found.model
    name = name or (folder.parent.name if folder.name == "model" else folder.name)
    return ImplicitPolicyReward(policy=policy, reference=reference, beta=beta, name=name, token_budget=token_budget)


def _model_in(place: str) -> str:
    with contextlib.suppress(OSError):
        if (Path(place) / "model").is_dir():
            return str(Path(place) / "model")
    return place


def _beta(trained: Mapping[str, Any], *, place: str) -> float:
    """Beta of a training whose loss was Bradley-Terry's likelihood of the log-ratio."""
    method = trained.get("method")
    settings = method if isinstance(method, Mapping) else {"name": method}
    beta = settings.get("beta")
    if settings.get("name") in _LOG_ODDS and isinstance(beta, int | float):
        return float(beta)
    told = f"was trained by {settings['name']}" if settings.get("name") else "does not say how it was trained"
    raise RecipeError(
        f"{place}: the policy {told}, so the scale of its implicit reward is not known; add beta=NUMBER to the place "
        f"(one of {', '.join(_LOG_ODDS)} says it itself)"
    )
