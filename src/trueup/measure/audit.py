"""The audit of one or several reward models: every measure, assembled into one documented mapping.

The schema is in docs/audit.md. All functions here work on rewards that have been computed already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.errors import DataError
from trueup.measure.audit_split import check_split, frame, split_measures
from trueup.measure.bootstrap import Resampling, mean, ratios
from trueup.measure.hack_rates import most_preferred, win_rates
from trueup.measure.hacking import HACKS
from trueup.measure.plain import plain
from trueup.measure.ranking import kendall_tau, pair_wins
from trueup.measure.scored import Array, ScoredSplit
from trueup.measure.verdict import verdict

SCHEMA = "trueup.audit/1"

_EXAMPLE_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class HackScores:
    """Rewards of original and edited responses under one model, for one hack.

    Args:
        hack: Name of the hack.
        split: Name of the split that the originals come from; its reward std is the unit of the shift.
        prompts: Prompt text of each edit.
        originals: Original responses.
        edited: Edited responses.
        prompt: Index of each edit's prompt.
        reward_original: Rewards of the originals.
        reward_edited: Rewards of the edited responses.
        unchanged: How many responses the hack did not apply to.
    """

    hack: str
    split: str
    prompts: tuple[str, ...]
    originals: tuple[str, ...]
    edited: tuple[str, ...]
    prompt: Int[Array, " edits"]
    reward_original: Float[Array, " edits"]
    reward_edited: Float[Array, " edits"]
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class AuditedModel:
    """One model with its rewards.

    Args:
        name: Name in tables; unique within an audit.
        kind: What it is: "directory", "hub" or "callable", say.
        path: Where it was read, or None.
        splits: Its rewards on each split; every model of an audit has the same splits, the first in-domain.
        hacks: Its rewards on the hack battery.
        details: Whatever else the report should show.
    """

    name: str
    kind: str
    path: str | None
    splits: tuple[ScoredSplit, ...]
    hacks: tuple[HackScores, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def audit(
    models: Sequence[AuditedModel],
    *,
    correct: Mapping[str, Bool[Array, " responses"]] | None = None,
    resampling: Resampling,
    created_by: Mapping[str, Any],
    examples: int = 3,
) -> dict[str, Any]:
    """Audit models side by side.

    Args:
        models: At least one; all with the same splits.
        correct: For splits that may be benchmarks, which responses are right.
        resampling: How intervals are made.
        created_by: Provenance: library versions, recipe, fingerprints.
        examples: How many of each hack's worst cases to keep.

    Returns:
        A mapping that `json.dumps` takes as it is; NaN is None.

    Raises:
        DataError: If models differ in splits, or a split's arrays cannot be trusted.
        NonFiniteError: If a reward is NaN or infinite.
    """
    _check(models)
    results = {model.name: _results(model, correct or {}, resampling) for model in models}
    hacks = {model.name: _hacks(model, resampling=resampling, examples=examples) for model in models}
    return {
        "schema": SCHEMA,
        "created_by": plain(created_by),
        "intervals": {"level": resampling.level, "resamples": resampling.resamples, "seed": resampling.seed},
        "models": [_describe(model) for model in models],
        "splits": [_size(split) for split in models[0].splits],
        "results": results,
        "hacks": hacks,
        "differences": _differences(models, resampling),
        "verdict": {name: [finding._asdict() for finding in verdict(results[name], hacks[name])] for name in results},
    }


def _check(models: Sequence[AuditedModel]) -> None:
    if not models or not models[0].splits:
        raise DataError("nothing to audit", expected="at least one model and one split")
    if len({model.name for model in models}) < len(models):
        raise DataError("two models have the same name", cure="give each model its own name")
    for model in models:
        names = [split.name for split in model.splits]
        if len(set(names)) < len(names):
            raise DataError("two splits have the same name", cure="give each split its own name")
        for split in model.splits:
            check_split(split, model=model.name)
        if not _same_rows(models[0].splits, model.splits):
            raise DataError(
                f"{models[0].name} and {model.name} were not scored on the same rows",
                cure="score every model on the same files",
            )


def _same_rows(a: Sequence[ScoredSplit], b: Sequence[ScoredSplit]) -> bool:
    return len(a) == len(b) and all(
        x.name == y.name and np.array_equal(x.prompt, y.prompt) and np.array_equal(x.pairs, y.pairs)
        for x, y in zip(a, b, strict=True)
    )


def _describe(model: AuditedModel) -> dict[str, Any]:
    return {"name": model.name, "kind": model.kind, "path": model.path, **plain(model.details)}


def _size(split: ScoredSplit) -> dict[str, Any]:
    return {
        "name": split.name,
        "prompts": split.prompts,
        "responses": len(split.reward),
        "pairs": len(split.pairs),
    }


def _results(
    model: AuditedModel, correct: Mapping[str, Bool[Array, " responses"]], resampling: Resampling
) -> dict[str, Any]:
    shared = frame(model.splits)
    return {
        split.name: plain(split_measures(split, shared=shared, resampling=resampling, correct=correct.get(split.name)))
        for split in model.splits
    }


def _hacks(model: AuditedModel, *, resampling: Resampling, examples: int) -> dict[str, Any]:
    spread = {split.name: float(np.std(split.reward)) for split in model.splits}
    return {
        scores.hack: _hack(scores, spread=spread, resampling=resampling, examples=examples) for scores in model.hacks
    }


def _hack(scores: HackScores, *, spread: Mapping[str, float], resampling: Resampling, examples: int) -> dict[str, Any]:
    if scores.split not in spread:
        raise DataError(f"hack {scores.hack} names split {scores.split!r}", expected="one of " + ", ".join(spread))
    before, after = scores.reward_original, scores.reward_edited
    rates = win_rates(before, after, prompt=scores.prompt, reward_std=spread[scores.split], resampling=resampling)
    known = HACKS.get(scores.hack)
    out = {**rates._asdict(), "split": scores.split, "unchanged": scores.unchanged}
    out["description"] = known.description if known else None
    out["examples"] = [
        {
            "prompt": _clip(scores.prompts[k]),
            "original": _clip(scores.originals[k]),
            "edited": _clip(scores.edited[k]),
            "reward_original": float(before[k]),
            "reward_edited": float(after[k]),
        }
        for k in most_preferred(before, after, count=examples)
    ]
    mapping: dict[str, Any] = plain(out)
    return mapping


def _clip(text: str) -> str:
    """At most 600 characters: beginning and end, since many edits touch the end."""
    half = _EXAMPLE_CHARACTERS // 2
    return text if len(text) <= _EXAMPLE_CHARACTERS else f"{text[:half]} [...] {text[-half:]}"


def _differences(models: Sequence[AuditedModel], resampling: Resampling) -> dict[str, Any]:
    """For each split and pair of models, the later minus the earlier, paired over prompts."""
    return {
        split.name: {
            f"{b.name} - {a.name}": plain(_difference(a.splits[k], b.splits[k], resampling))
            for a, b in combinations(models, 2)
        }
        for k, split in enumerate(models[0].splits)
    }


def _difference(a: ScoredSplit, b: ScoredSplit, resampling: Resampling) -> dict[str, Any]:
    wins_a, wins_b = pair_wins(a), pair_wins(b)
    gain = ratios(wins_b[:, :1] - wins_a[:, :1], wins_a[:, 1:], resampling=resampling)[0]
    tau = kendall_tau(b) - kendall_tau(a)
    return {
        "accuracy": gain if len(a.pairs) else None,
        "tau": mean(tau, resampling=resampling) if np.isfinite(tau).any() else None,
    }
