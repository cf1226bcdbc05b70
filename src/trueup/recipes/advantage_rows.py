"""Rows that know what their responses weigh: on disk, without what is not better, and drawn by priority."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.utils.data import Sampler
from transformers import TrainingArguments

from trueup.data.branches import with_branches
from trueup.data.fingerprint import fingerprint
from trueup.data.rows import Row
from trueup.data.selection import Dropped
from trueup.data.tokens import TokenTable
from trueup.errors import DataError
from trueup.files import write_text
from trueup.models.policy import PolicyModel
from trueup.recipes.preference_settings import TrainPreference
from trueup.train.dataset import BranchDataset, Preferences
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.prepare import Prepared
from trueup.train.priority import PrioritySampler

logger = logging.getLogger(__name__)

Array = np.ndarray
RESPONSES, SUMMARY = "advantages.jsonl", "advantages.json"

# Values are float32: a difference of less than this share of R_max says nothing.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of all responses before the first step.

    Args:
        rewards: R of each response, by split and row.
        values: V of each row's prompt, by split; None for methods that learn from rewards.
        facts: How the values were fitted.
    """

    rewards: Mapping[str, Sequence[Float[Array, " k"]]]
    values: Mapping[str, Float[Array, " rows"]] | None
    facts: Mapping[str, Any]

    def weights(self, split: str) -> list[Float[Array, " k"]]:
        """A = R - V of each response by row, or R."""
        if self.values is None:
            return list(self.rewards[split])
        return [reward - value for reward, value in zip(self.rewards[split], self.values[split], strict=True)]


def key_of(datasets: Mapping[str, BranchDataset]) -> str:
    """A hash of all texts, by which what was found is found again."""
    names = [f"{name} {fingerprint(texts_of(dataset))}" for name, dataset in datasets.items()]
    return hashlib.sha256("|".join(names).encode()).hexdigest()


def texts_of(dataset: BranchDataset) -> list[Row]:
    """The used rows as text."""
    return [dataset.text(i) for i in range(len(dataset))]


# The run's folder


def save_found(folder: Path, datasets: Mapping[str, BranchDataset], found: Found, *, key: str) -> None:
    """Write what was found of each response, and how values were fitted."""
    lines = []
    for name, dataset in datasets.items():
        for number, row in enumerate(texts_of(dataset)):
            weights = found.weights(name)[number] if found.values is not None else None
            for place, reward in enumerate(found.rewards[name][number].tolist()):
                record = {"split": name, "row": str(row.origin), "id": row.id, "response": place + 1, "reward": reward}
                if found.values is not None and weights is not None:
                    record |= {"value": float(found.values[name][number]), "advantage": float(weights[place])}
                lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path = write_text(folder / RESPONSES, "".join(lines))
    about = {"key": key, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "fit": found.facts}
    write_text(folder / SUMMARY, json.dumps(about, indent=1) + "\n")


def load_found(folder: Path, datasets: Mapping[str, BranchDataset], *, key: str) -> Found | None:
    """What an earlier start found; None where that is absent, damaged or of other rows."""
    try:
        about = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        content = (folder / RESPONSES).read_bytes()
        whole = (about["key"], about["sha256"]) == (key, hashlib.sha256(content).hexdigest())
        facts = about["fit"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        logger.warning("%s: is damaged or of other rows; rewards and values are computed again", folder / RESPONSES)
        return None
    records = iter([json.loads(line) for line in content.splitlines()])
    rewards: dict[str, list[Array]] = {}
    values: dict[str, Array] = {}
    for name, dataset in datasets.items():
        groups = [[next(records) for _ in row.responses] for row in texts_of(dataset)]
        rewards[name] = [np.asarray([one["reward"] for one in group]) for group in groups]
        if facts:
            values[name] = np.asarray([group[0]["value"] for group in groups])
    return Found(rewards=rewards, values=values or None, facts=facts)


# Rows that know


def summary_of(recipe: TrainPreference, found: Found) -> dict[str, Any]:
    """What was found of the responses to learn from, in a few plain values."""
    weights = np.concatenate(found.weights("train"))
    positive = int((weights > _threshold(recipe)).sum())
    facts: dict[str, Any] = {
        "responses": len(weights),
        "positive": positive,
        "kept_share": positive / len(weights),
        "mean_reward": float(np.concatenate(found.rewards["train"]).mean()),
    }
    if found.values is not None:
        facts |= {"mean_value": float(found.values["train"].mean()), "fit": dict(found.facts)}
    return facts


def check_positive(recipe: TrainPreference, found: Found) -> None:
    """Stop where there is nothing to learn from.

    Raises:
        DataError: No response has a positive advantage or reward.
    """
    weights = np.concatenate(found.weights("train"))
    if (weights > _threshold(recipe)).any():
        return
    if found.values is None:
        raise DataError(
            f"the reward of all {len(weights)} responses is 0",
            file=recipe.data.train,
            expected="responses that earn something",
            cure="take another reward",
        )
    raise DataError(
        f"none of {len(weights)} responses has a positive advantage; the largest is {weights.max():g}",
        file=recipe.data.train,
        expected="responses that earn more than the reference's own",
        cure="take better responses, a reward that tells them apart, or a reference that was not trained so far",
    )


def _threshold(recipe: TrainPreference) -> float:
    """What an advantage must exceed to be one; rewards are exact."""
    return _ROUNDING * recipe.weighing.reward_max if recipe.fits_values else 0.0


def with_weights(recipe: TrainPreference, prepared: Prepared, found: Found, *, split: str) -> Prepared:
    """The rows with their rewards or advantages; those to learn from without responses that are not better."""
    dataset, weights, dropped = prepared.dataset, found.weights(split), list(prepared.dropped)
    if found.values is None:
        known = dataset.with_known(branches_of={"reward": [torch.from_numpy(one).float() for one in weights]})
        return replace(prepared, dataset=known)
    if split == "train":
        better = [one > _threshold(recipe) for one in weights]
        dropped += _not_better(dataset, weights, better)
        dataset = _with_responses(dataset, better)
        weights = [one[kept] for one, kept in zip(weights, better, strict=True) if kept.any()]
    advantages = [
        torch.from_numpy(one).float().repeat_interleave(torch.tensor(dataset[i].branch_lengths))
        for i, one in enumerate(weights)
    ]
    return replace(prepared, dataset=dataset.with_known(tokens_of={"advantage": advantages}), dropped=tuple(dropped))


def _not_better(dataset: BranchDataset, weights: Sequence[Array], better: Sequence[Bool[Array, " k"]]) -> list[Dropped]:
    dropped = []
    for row, weight, kept in zip(texts_of(dataset), weights, better, strict=True):
        if not kept.any():
            detail = f"the best of {len(weight)} has {weight.max():.6g}"
            dropped.append(Dropped("no positive advantage", row.origin, row.id, detail))
            continue
        for place in np.flatnonzero(~kept).tolist():
            detail = f"response {place + 1} of {len(weight)} has {weight[place]:.6g}"
            dropped.append(Dropped("response without positive advantage", row.origin, row.id, detail))
    return dropped


def _with_responses(dataset: BranchDataset, wanted: Sequence[Bool[Array, " k"]]) -> BranchDataset:
    """The rows with some of their responses; rows that have none of them are left out."""
    chosen = [i for i, kept in enumerate(wanted) if kept.any()]
    rows, folded = [], []
    for i in chosen:
        text, kept = dataset.text(i), wanted[i]
        rows.append(replace(text, responses=tuple(one for one, use in zip(text.responses, kept, strict=True) if use)))
        folded.append(with_branches(dataset[i], kept))
    lengths = [row.branch_lengths for row in folded]
    table = TokenTable(
        tokens=np.concatenate([row.tokens for row in folded]),
        row_start=np.cumsum([0, *(row.size for row in folded)]),
        prompt_length=np.asarray([row.prompt_length for row in folded]),
        branch_start=np.cumsum([0, *map(len, lengths)]),
        branch_length=np.concatenate([np.asarray(one) for one in lengths]),
    )
    nothing = [Preferences((), (-1,) * len(row.responses)) for row in rows]
    return BranchDataset(rows, table, nothing)


def priorities_of(recipe: TrainPreference, dataset: BranchDataset) -> tuple[float, ...] | None:
    """What each row is drawn in proportion to: the weights of its responses, summed; None where rows are shuffled."""
    if not recipe.weighing.priority:
        return None
    if not recipe.fits_values:
        return tuple(float(one.double().sum()) for one in dataset.branches_of["reward"])
    firsts = [np.cumsum([0, *dataset[i].branch_lengths[:-1]]) for i in range(len(dataset))]
    held = dataset.tokens_of["advantage"]
    return tuple(float(held[i][first].double().sum()) for i, first in enumerate(firsts))


class PriorityTrainer(PreferenceTrainer):
    """Trains on rows that are drawn in proportion to a priority.

    Args:
        model: The policy.
        args: As of `PreferenceTrainer`; an epoch has as many draws as there are rows with a positive priority.
        priorities: One for each row; None to shuffle.
        options: Further arguments of `PreferenceTrainer`.
    """

    def __init__(
        self, model: PolicyModel, args: TrainingArguments, *, priorities: Sequence[float] | None, **options: Any
    ) -> None:
        self.priorities = priorities
        super().__init__(model, args, **options)

    def _get_train_sampler(self, train_dataset: BranchDataset | None = None) -> Sampler[int]:
        if self.priorities is None:
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return PrioritySampler(self.priorities, step_rows=self.step_rows, seed=seed)
