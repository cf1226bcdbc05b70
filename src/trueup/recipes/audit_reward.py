"""`trueup audit reward`: how far one or several reward models can be trusted."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trueup.data.formats import read_rows
from trueup.data.rows import Row
from trueup.errors import RecipeError
from trueup.files import check_output, write_text, written_together
from trueup.measure.audit import AuditedModel, audit
from trueup.measure.bootstrap import Resampling
from trueup.recipes.config import Recipe, check_range, dump
from trueup.recipes.provenance import versions
from trueup.recipes.scoring import (
    Battery,
    check_device,
    make_battery,
    require_rows,
    right_answers,
    score_battery,
    score_split,
)
from trueup.report.page import write_page
from trueup.report.reward_audit import audit_page
from trueup.rewards.base import Reward
from trueup.rewards.load import load_reward
from trueup.rewards.model import ModelReward

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class AuditReward(Recipe):
    """Measure reward models side by side.

    Args:
        models: Directories, run directories, hub ids or `package.module:function`; `name=` in front names one.
        data: Named splits, such as `--data.in_domain FILE`; the first is the reference for shifts.
        output: Folder of `audit.json` and `report.html`.
        format: Name of the data's format; told by the first record by default.
        split: Split of folders and hub ids.
        limit: Use no more than this many rows of each split.
        hack_prompts: Prompts of the first split with preferences that the hack battery edits; 0 for none.
        resamples: Bootstrap resamples behind each interval.
        level: Coverage of the intervals.
        token_budget: Token slots per forward pass.
        dtype: Type of weights; as saved by default.
        device: Where models run; CUDA if there is one.
        seed: Seed of intervals and edits.
        trust_remote_code: Run code that comes with a model.
    """

    models: list[str]
    data: str | dict[str, str]
    output: Path = Path("audit")
    format: str = "auto"
    split: str | None = None
    limit: int | None = None
    hack_prompts: int = 200
    resamples: int = 1000
    level: float = 0.95
    token_budget: int = 16_384
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise RecipeError("no model is named; write `trueup audit reward MODEL ... --data FILE`")
        check_range(self, "limit", "resamples", "token_budget", low=1)
        check_range(self, "hack_prompts", "seed", low=0)
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")

    @property
    def sources(self) -> dict[str, str]:
        """Splits by name."""
        if isinstance(self.data, dict):
            return dict(self.data)
        return {Path(self.data).name.partition(".")[0] or self.data: self.data}


@dataclass(frozen=True)
class RewardAudit:
    """A finished audit.

    Args:
        audit: The documented mapping, as in `audit.json`.
        folder: Where it was written.
    """

    audit: Mapping[str, Any]
    folder: Path

    def summary(self) -> str:
        """The verdict in words, and where the page is."""
        marks = {"good": "+", "watch": "~", "bad": "-"}
        lines = []
        for name, findings in self.audit["verdict"].items():
            lines += [f"{name}", *(f"  {marks[f['level']]} {f['text']}" for f in findings), ""]
        return "\n".join([*lines, f"report: {self.folder / 'report.html'}"])


def audit_reward(recipe: AuditReward) -> RewardAudit:
    """Score every split with every model, measure, and write `audit.json` and `report.html`.

    Raises:
        DataError: A split cannot be used.
        CheckpointError: A model cannot be used.
        OutputError: The folder cannot be written.
    """
    check_output(recipe.output, folder=True)
    check_device(recipe.device)
    splits = _read_splits(recipe)
    battery = _battery(recipe, splits)
    models = [_measure(recipe, name, splits, battery) for name in recipe.models]
    correct = {name: right for name, rows in splits.items() if (right := right_answers(rows)) is not None}
    result = audit(
        models,
        correct=correct,
        resampling=Resampling(resamples=recipe.resamples, level=recipe.level, seed=recipe.seed),
        created_by={"versions": versions(), "recipe": dump(recipe), "sources": recipe.sources},
    )
    write_audit(result, recipe.output)
    return RewardAudit(result, recipe.output)


def write_audit(result: Mapping[str, Any], folder: Path) -> None:
    """Write `audit.json` and the page made of it."""
    with written_together(folder) as place:
        write_text(place / "audit.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_page(audit_page(result), place / "report.html")


def _read_splits(recipe: AuditReward) -> dict[str, tuple[Row, ...]]:
    splits = {}
    for name, source in recipe.sources.items():
        file = read_rows(source, format=recipe.format, split=recipe.split, limit=recipe.limit)
        require_rows(file.rows, source)
        if file.problems:
            reasons = sorted({problem.reason for problem in file.problems})
            logger.warning("%s: %d rows cannot be used: %s", source, len(file.problems), ", ".join(reasons))
        splits[name] = file.rows
    return splits


def _battery(recipe: AuditReward, splits: Mapping[str, Sequence[Row]]) -> Battery | None:
    if recipe.hack_prompts == 0:
        return None
    made = (make_battery(n, rows, prompts=recipe.hack_prompts, seed=recipe.seed) for n, rows in splits.items())
    battery = next((one for one in made if one is not None), None)
    if battery is None:
        logger.warning("no split says which responses are good: the hack battery is left out")
    return battery


def _measure(
    recipe: AuditReward, name: str, splits: Mapping[str, Sequence[Row]], battery: Battery | None
) -> AuditedModel:
    reward = load_reward(
        name,
        keep_hidden=True,
        device=recipe.device,
        dtype=DTYPES[recipe.dtype] if recipe.dtype else None,
        token_budget=recipe.token_budget,
        progress=True,
        trust_remote_code=recipe.trust_remote_code,
    )
    return measure_reward(reward, splits, battery, path=name.rpartition("=")[2])


def measure_reward(
    reward: Reward, splits: Mapping[str, Sequence[Row]], battery: Battery | None, *, path: str | None = None
) -> AuditedModel:
    """Score all splits and the battery with one reward."""
    scored = tuple(score_split(reward, split, rows) for split, rows in splits.items())
    is_model = isinstance(reward, ModelReward)
    details: dict[str, Any] = {}
    if isinstance(reward, ModelReward):
        known = reward.checkpoint
        count = sum(p.numel() for p in known.model.parameters())
        norm = float(np.linalg.norm(known.model.head.weight.detach().float().mean(0).cpu().numpy()))
        details = {"parameters": count, "head_norm": norm, "text_format": known.form.to_dict()}
        details["applied_coefficient"] = known.provenance.get("applied_coefficient")
    return AuditedModel(
        name=reward.name,
        kind="model" if is_model else "callable",
        path=path,
        splits=scored,
        hacks=score_battery(reward, battery) if battery is not None else (),
        details=details,
    )
