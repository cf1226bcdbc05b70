"""One offline training of a policy in this process, each run once: experiments share runs, and can be resumed.

Whatever a run learns from stands in its rows: preferences as labels or scores, rewards and advantages as features of
responses, under the names that terms need them by.
"""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from trueup.data.fingerprint import fingerprint
from trueup.data.pairs import PairRule
from trueup.data.rows import Row
from trueup.errors import DataError, RecipeError
from trueup.files import PARTIAL, cache_folder, move_into_place, write_text
from trueup.lab.fitting import quiet_arguments, quietly
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint, save_policy
from trueup.models.reading import logprobs
from trueup.models.side_files import read_side_file
from trueup.train.dataset import BranchDataset
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.prepare import prepare_pairs, prepare_replies
from trueup.train.priority import priority_rows
from trueup.types import PolicyObjective

logger = logging.getLogger(__name__)

# Raised when the same run would give another policy.
_VERSION = 1
_TOKEN_BUDGET = 8_192
_COST = "offline.json"

FEATURES = ("reward", "advantage")
"""Features of responses that terms may need."""


@dataclass(frozen=True, kw_only=True)
class OfflineTraining:
    """How a policy learns from rows.

    Args:
        terms: The loss: a method and its regularisers.
        steps: Optimiser steps.
        batch_size: Rows of a step.
        learning_rate: Peak rate of AdamW.
        schedule: What becomes of it after the warm-up.
        warmup_steps: Steps over which it rises.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient norm beyond which it is clipped; 0 for no clipping.
        pairs: Which pairs of a row are learned from, for terms of pairs.
        priority: Feature in proportion to which rows are drawn, with replacement; None for passes in random order.
        seed: Seed of the order.
    """

    terms: tuple[PolicyObjective, ...]
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 3e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    pairs: PairRule = "all"
    priority: str | None = None
    seed: int = 0

    @property
    def needs(self) -> frozenset[str]:
        """What terms need beside the policy."""
        return frozenset(need for term in self.terms for need in term.needs)

    @property
    def paired(self) -> bool:
        """Whether a term learns from pairs."""
        return any(term.unit == "pair" for term in self.terms)

    def record(self) -> dict[str, Any]:
        """Plain values of these settings."""
        terms = [{"name": type(term).__name__, **asdict(term)} for term in self.terms]  # type: ignore[call-overload]
        return {"terms": terms, **{name: value for name, value in vars(self).items() if name != "terms"}}


@dataclass(frozen=True, kw_only=True)
class OfflineRun:
    """A policy to be trained.

    Args:
        start: Folder of the policy that training begins from.
        rows: What it learns from.
        how: The method and its settings.
        reference: Folder of the policy that terms hold it against; the start by default.
        previous: Folder of the policy of the round before; the start by default.
    """

    start: Path
    rows: tuple[Row, ...]
    how: OfflineTraining
    reference: Path | None = None
    previous: Path | None = None

    def place(self, need: Literal["reference", "previous"]) -> Path:
        """Folder of what a need is computed by."""
        found: Path | None = getattr(self, need)
        return found or self.start

    @property
    def key(self) -> str:
        """Name of everything that the trained policy depends on."""
        held = [weights_key(self.place(need)) for need in _held(self.how)]
        parts = [_VERSION, weights_key(self.start), held, fingerprint(self.rows), self.how.record()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Cost:
    """What a training took.

    Args:
        seconds: Of the processor, references included.
        rows: Rows that were learned from.
        dropped: Rows, or pairs within rows, that could not be.
    """

    seconds: float
    rows: int
    dropped: int


def weights_key(policy: Path) -> str:
    """Hash of a policy's weights, configuration, tokenizer and text format."""
    digest = hashlib.sha256(json.dumps((read_side_file(policy) or {}).get("text_format"), sort_keys=True).encode())
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        digest.update((policy / name).read_bytes())
    return digest.hexdigest()


def run_offline(run: OfflineRun, *, folder: Path | None = None) -> Path:
    """Train a policy, or find the one that the same run gave before.

    Args:
        run: What is to be done.
        folder: Where policies and runs are kept; the user's cache folder by default.

    Returns:
        Folder of an ordinary checkpoint.

    Raises:
        DataError: There is nothing to learn from.
        RecipeError: Terms need what responses do not state, or fit no offline training.
        NonFiniteError: The loss became NaN.
    """
    target = (folder or cache_folder() / "lab") / "offline" / run.key
    if all((target / name).is_file() for name in (_COST, "model.safetensors", "tokenizer.json")):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        quietly(),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{PARTIAL}-", ignore_cleanup_errors=True) as aside,
    ):
        policy = load_policy_checkpoint(run.start, dtype=torch.float32)
        begun, done = time.process_time(), Path(aside) / "done"
        rows, dropped = _train(policy, run)
        cost = Cost(time.process_time() - begun, rows, dropped)
        provenance = {"how": run.how.record()}
        save_policy(done, policy.model, tokenizer=policy.tokenizer, form=policy.form, provenance=provenance)
        write_text(done / _COST, json.dumps(asdict(cost)) + "\n")
        move_into_place(done, target)
    logger.info("run %s: %d rows, %d dropped, %.0f s", run.key, rows, dropped, cost.seconds)
    return target


def cost_of(trained: Path) -> Cost:
    """What the training of a policy of `run_offline` took."""
    return Cost(**json.loads((trained / _COST).read_text(encoding="utf-8")))


def _train(policy: PolicyCheckpoint, run: OfflineRun) -> tuple[int, int]:
    """Train in place; returns how many rows were learned from and how many dropped."""
    how = run.how
    dataset, dropped = _dataset(policy, run)
    set_seed(how.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PreferenceTrainer(
            policy.model,
            _arguments(how, folder),
            terms=how.terms,
            train_dataset=_in_order(dataset, how),
            tokenizer=policy.tokenizer,
            form=policy.form,
            token_budget=_TOKEN_BUDGET,
        )
        policy.model.settle()
        trainer.train()
    policy.model.eval()
    return len(dataset), dropped


def _dataset(policy: PolicyCheckpoint, run: OfflineRun) -> tuple[BranchDataset, int]:
    how = run.how
    prepare = partial(prepare_pairs, rule=how.pairs) if how.paired else prepare_replies
    prepared = prepare(run.rows, tokenizer=policy.tokenizer, form=policy.form)
    dataset = prepared.dataset
    if not len(dataset):
        wanted = "a preference between different responses" if how.paired else "responses that fit"
        raise DataError(f"none of {len(run.rows)} rows is left", expected=f"rows with {wanted}")
    of_features = {name: _feature(dataset, name) for name in FEATURES if name in how.needs}
    advantage = of_features.pop("advantage", None)
    tokens_of: dict[str, Sequence[Tensor]] = {need: _held_logprobs(dataset, run, need) for need in _held(how)}
    if advantage is not None:
        lengths = [torch.tensor(dataset[i].branch_lengths) for i in range(len(dataset))]
        tokens_of["advantage"] = [each.repeat_interleave(n) for each, n in zip(advantage, lengths, strict=True)]
    return dataset.with_known(tokens_of=tokens_of, branches_of=of_features), len(prepared.dropped)


def _held(how: OfflineTraining) -> list[Literal["reference", "previous"]]:
    names: tuple[Literal["reference", "previous"], ...] = ("reference", "previous")
    return [name for name in names if name in how.needs]


def _held_logprobs(dataset: BranchDataset, run: OfflineRun, need: Literal["reference", "previous"]) -> list[Tensor]:
    held = load_policy_checkpoint(run.place(need), dtype=torch.float32).model
    return logprobs(held, [dataset[i] for i in range(len(dataset))], token_budget=_TOKEN_BUDGET)


def _feature(dataset: BranchDataset, name: str) -> list[Tensor]:
    """A feature of all computed responses, one tensor a row."""
    rows = [dataset.text(i) for i in range(len(dataset))]
    for row in rows:
        if any(name not in one.features for one in row.responses):
            cure = f"give every response a feature {name!r}"
            raise DataError(f"a response states no {name}", file=row.origin.file, row=row.origin.row, cure=cure)
    return [torch.tensor([one.features[name] for one in row.responses], dtype=torch.float32) for row in rows]


def _in_order(dataset: BranchDataset, how: OfflineTraining) -> BranchDataset:
    """The rows; drawn with replacement, step by step, where there are priorities."""
    if how.priority is None:
        return dataset
    worth = [float(each.clamp(min=0).sum()) for each in _feature(dataset, how.priority)]
    order = [number for step in range(how.steps)
             for number in priority_rows(worth, step=step, count=how.batch_size, seed=how.seed)]  # fmt: skip

    def drawn(known: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
        return {name: [each[number] for number in order] for name, each in known.items()}

    return BranchDataset(
        dataset.rows,
        dataset.table,
        dataset.preferences,
        keep=[dataset.keep[number] for number in order],
        paired_only=dataset.paired_only,
        tokens_of=drawn(dataset.tokens_of),
        branches_of=drawn(dataset.branches_of),
    )


def _arguments(how: OfflineTraining, folder: str) -> TrainingArguments:
    if how.steps < 1 or how.batch_size < 1:
        raise RecipeError(f"steps and batch_size must be at least 1, got {how.steps} and {how.batch_size}")
    return quiet_arguments(
        folder,
        per_device_train_batch_size=how.batch_size,
        max_steps=how.steps,
        learning_rate=how.learning_rate,
        lr_scheduler_type=how.schedule if how.schedule == "cosine" else "constant_with_warmup",
        warmup_steps=how.warmup_steps,
        weight_decay=how.weight_decay,
        max_grad_norm=how.max_grad_norm,
        train_sampling_strategy="random" if how.priority is None else "sequential",
        seed=how.seed,
    )
