"""The reward that a policy implies which was trained on preferences by DPO."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from trueup.data.rows import Prompt
from trueup.endpoints.settings import build
from trueup.errors import CheckpointError, NonFiniteError, RecipeError
from trueup.models.branch_model import check_sharing
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.models.reading import logprobs
from trueup.rewards.base import Scores
from trueup.rewards.flat import flatten
from trueup.rewards.scored_rows import scored_rows

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
        known, model = self.policy, self.policy.model.eval()
        rows = scored_rows(prompts, responses, tokenizer=known.tokenizer, form=known.form, name=self.name, seam="reply")
        check_sharing(model, rows[:2])
        own = logprobs(model, rows, token_budget=self.token_budget)
        if self.reference is not None:
            start = logprobs(self.reference.eval(), rows, token_budget=self.token_budget)
        else:
            with model.pretrained.disable_adapter():
                start = logprobs(model, rows, token_budget=self.token_budget)
        lengths = [length for row in rows for length in row.branch_lengths]
        ratio = torch.cat(own).double() - torch.cat(start).double() if rows else torch.zeros(0, dtype=torch.float64)
        reward = np.asarray([float(one.sum()) for one in torch.split(ratio * self.beta, lengths)])
        wrong = np.flatnonzero(~np.isfinite(reward))
        if len(wrong):
            raise NonFiniteError(
                f"{self.name} gives a reward of {reward[wrong[0]]} to a response in row {flat[wrong[0]].row} "
                f"({len(wrong)} in all); check the policy's and the reference's weights"
            )
        numbers = np.asarray([one.row - 1 for one in flat], int)
        return Scores(reward=reward, prompt=numbers, length=np.asarray(lengths, float))


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
