"""Reward models of the world's writers, measured on the four distribution shifts; each run once and kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.pairs import pairs_of
from trueup.data.rows import Row
from trueup.files import cache_folder, write_text
from trueup.lab.fitting import Fit, fit_reward
from trueup.lab.policies import PolicyPlan, build_policy
from trueup.lab.world import World
from trueup.measure.dispersion import hidden_norm
from trueup.measure.ranking import kendall_tau, pair_wins
from trueup.measure.scored import ScoredSplit
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.rewards.model import ModelReward
from trueup.types import RewardObjective

# Raised when the same run would give other numbers.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ShiftRun:
    """A reward model of the world's writers.

    Args:
        policy: Language model that it begins from; its world is the world.
        train: Prompts of the training pairs.
        held_out: Prompts of each test on unseen prompts; the test on training prompts uses as many.
        terms: The loss.
        fit: How it is trained.
        seed: Seed of the head and the order of the data.
    """

    policy: PolicyPlan
    train: int = 2_000
    held_out: int = 300
    terms: tuple[RewardObjective, ...] = (BradleyTerry(),)
    fit: Fit = field(default_factory=lambda: Fit(learning_rate=5e-4, batch_size=32, epochs=3.0))
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of everything that the result depends on."""
        terms = [{"name": type(term).__name__, **asdict(term)} for term in self.terms]  # type: ignore[call-overload]
        parts = [_VERSION, self.policy.key, self.train, self.held_out, terms, asdict(self.fit), self.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def run_shifts(run: ShiftRun, *, folder: Path | None = None) -> dict[str, dict[str, float]]:
    """Train and measure, or read what the same run gave before; measures by split."""
    home = folder or cache_folder() / "lab"
    path = home / "shifts" / f"{run.key}.json"
    if path.is_file():
        known: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
        return known
    splits = _splits(run.policy.world, run.train, run.held_out)
    trunk = build_policy(run.policy, folder=home / "policies")
    made = fit_reward(splits["train"], trunk, fit=run.fit, seed=run.seed, terms=run.terms)
    reward = ModelReward(checkpoint=made, name="model", keep_hidden=True)
    found = {name: _measure(reward, name, rows[: run.held_out]) for name, rows in splits.items()}
    write_text(path, json.dumps(found, indent=1) + "\n")
    return found


@cache
def _splits(world: int, train: int, held_out: int) -> Mapping[str, Sequence[Row]]:
    return World(world).four_shifts(train, held_out=held_out, temperature=0.0)


def _measure(reward: ModelReward, name: str, rows: Sequence[Row]) -> dict[str, float]:
    scores = reward.score([row.prompt for row in rows], [[r.text for r in row.responses] for row in rows])
    counts = [len(row.responses) for row in rows]
    starts = np.cumsum([0, *counts])[:-1]
    pairs = [(a + start, b + start) for row, start in zip(rows, starts, strict=True) for a, b in pairs_of(row)]
    split = ScoredSplit(
        name=name,
        reward=scores.reward,
        prompt=scores.prompt,
        pairs=np.asarray(pairs, np.int64).reshape(-1, 2),
        length=scores.length,
        gold=_gold(rows),
    )
    norm = hidden_norm(np.asarray(scores.hidden))
    wins = pair_wins(split).sum(axis=0)
    measures: dict[str, Any] = {
        "accuracy": wins[0] / wins[1],
        "reward_mean": scores.reward.mean(),
        "reward_std": scores.reward.std(),
        "norm_mean": norm.mean(),
        "norm_std": norm.std(),
    }
    if scores.before_norm is not None:
        measures |= {"before_norm_mean": scores.before_norm.mean(), "before_norm_std": scores.before_norm.std()}
    if split.gold is not None and counts[0] > 2:
        measures["tau"] = np.nanmean(kendall_tau(split))
    return {key: float(value) for key, value in measures.items()}


def _gold(rows: Sequence[Row]) -> np.ndarray | None:
    values = [response.score for row in rows for response in row.responses]
    return None if any(value is None for value in values) else np.asarray(values, float)
