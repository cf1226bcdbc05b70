"""What the page on IFT runs, and what it reads off the runs.

**Source** Hua et al. (2025), Intuitive Fine-Tuning, arXiv 2405.11870.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from trueup.data.rows import Row
from trueup.files import cache_folder
from trueup.lab.arithmetic.characters import build_character_policy
from trueup.lab.arithmetic.problems import demonstrations
from trueup.lab.arithmetic.worlds import ArithmeticWorld, set_up_world
from trueup.lab.fitting import Fit, quietly
from trueup.lab.frozen_lake import ALPHABET, Lake, Walked, expert_walks, random_walks, walk_with
from trueup.lab.offline_draws import likelihoods
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, run_offline
from trueup.lab.reproduce.h_dpo_runs import world_plan
from trueup.lab.reproduce.ift_odds import OddsRatio
from trueup.lab.reproduce.scale import Scale
from trueup.lab.scale_models import Shape
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.objectives.supervised.ift import IFT
from trueup.objectives.supervised.ift_paper import IFTPaper
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.types import PolicyObjective

SFT, ALIKE, FULL, PAPER = "SFT", "SFT, each response alike", "IFT", "IFT, as written"
MIXED, WEIGHTED, PREFERRED = "IFT, mixing alone", "IFT, weights alone", "SFT, then DPO"
ORPO, ONLY_DPO = "ORPO", "DPO"

SUPERVISED: Mapping[str, PolicyObjective] = {
    SFT: NegativeLogLikelihood(),
    ALIKE: IFT(mix=0.0, gamma=0.0),
    FULL: IFT(),
    PAPER: IFTPaper(),
    MIXED: IFT(gamma=0.0),
    WEIGHTED: IFT(mix=0.0),
}
"""What learns from examples alone."""

ON_LAKE = (*SUPERVISED, ORPO, PREFERRED, ONLY_DPO)
ON_PROBLEMS = (*SUPERVISED, PREFERRED)
EXAMPLES = 200
BETA, BETA_ALONE = 1.0, 0.1
"""Of DPO after SFT, and of DPO on the lake's start."""

RATE, DPO_RATE = 1e-4, 1e-4
"""Of SFT and its relatives on problems, and of DPO after it."""

_TESTED_SEED, _WALK_SEED, _VERSION = 50_001, 60_001, 1


@dataclass(frozen=True, kw_only=True)
class LakePlan:
    """One lake, a model of random walks on it, and few expert walks; another seed is another model and other walks.

    Args:
        lake: The lake.
        walks: Random walks that the start learned from.
        shape: Size of the start.
        fit: How it learned.
        experts: Expert walks that the methods learn from.
        steps: Optimiser steps of a method.
        batch_size: Walks of a step.
        learning_rate: Peak rate.
        second_rate: That of DPO after SFT.
        tested: Walks of a trained policy.
        seed: Seed of everything.
    """

    lake: Lake = field(default_factory=lambda: Lake(slip=0.2))
    walks: int = 1_500
    shape: Shape = field(default_factory=lambda: Shape(width=48, layers=2, heads=4, positions=64))
    fit: Fit = field(default_factory=lambda: Fit(learning_rate=4e-3, batch_size=16, epochs=2.0, weight_decay=0.01))
    experts: int = 20
    steps: int = 150
    batch_size: int = 10
    learning_rate: float = 1e-3
    second_rate: float = 2e-4
    tested: int = 1_000
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of everything that the start depends on."""
        parts = [_VERSION, "lake", asdict(self.lake), self.walks, asdict(self.shape), asdict(self.fit), self.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def lake_plan(scale: Scale, seed: int) -> LakePlan:
    """A lake whose sizes follow the scale's."""
    full = LakePlan()
    walks = min(full.walks, scale.setup.policy.prompts)
    tested = min(full.tested, 2 * scale.setup.samples)
    return replace(full, walks=walks, steps=_steps(scale, full.steps), tested=tested, seed=seed)


def _steps(scale: Scale, full: int) -> int:
    return min(full, max(full * scale.policy_steps // 100, 2))


@dataclass(frozen=True, kw_only=True)
class LakeWorld:
    """What one lake gave.

    Args:
        seed: Its seed.
        start: The model of random walks.
        walked: By method.
        optimal: Probability that the optimal policy reaches the goal.
    """

    seed: int
    start: Walked
    walked: Mapping[str, Walked]
    optimal: float


def run_lake(scale: Scale, seed: int) -> LakeWorld:
    """Every method on one lake; what an earlier run has done is read."""
    plan, home = lake_plan(scale, seed), scale.folder or cache_folder() / "lab"
    start = _lake_start(plan, home)
    demonstrated = tuple(expert_walks(plan.lake, plan.experts, seed=seed))
    preferred = tuple(expert_walks(plan.lake, plan.experts, seed=seed, against_random=True))
    how = OfflineTraining(
        terms=(NegativeLogLikelihood(),),
        steps=plan.steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        seed=seed,
    )

    def train(how: OfflineTraining, rows: tuple[Row, ...], at: Path = start) -> Path:
        return run_offline(OfflineRun(start=at, rows=rows, how=how), folder=home)

    trained = {name: train(replace(how, terms=(term,)), demonstrated) for name, term in SUPERVISED.items()}
    trained[ORPO] = train(replace(how, terms=(ChosenLikelihood(), OddsRatio())), preferred)
    half = replace(how, steps=max(plan.steps // 2, 1))
    second = replace(half, terms=(DPO(beta=BETA),), learning_rate=plan.second_rate)
    trained[PREFERRED] = train(second, preferred, at=train(half, demonstrated))
    trained[ONLY_DPO] = train(replace(how, terms=(DPO(beta=BETA_ALONE),)), preferred)
    return LakeWorld(
        seed=seed,
        start=_walked(start, plan),
        walked={name: _walked(trained[name], plan) for name in ON_LAKE},
        optimal=plan.lake.success(plan.lake.optimal),
    )


def _lake_start(plan: LakePlan, home: Path) -> Path:
    return build_character_policy(
        plan.key,
        lambda: random_walks(plan.lake, plan.walks, seed=plan.seed),
        folder=home / "policies",
        alphabet=ALPHABET,
        shape=plan.shape,
        fit=plan.fit,
        seed=plan.seed,
        provenance={"plan": asdict(plan)},
        quality=lambda made: _plain(_walked(made, plan)),
    )


def _plain(walked: Walked) -> dict[str, Any]:
    return {"distance": walked.distance, "met": walked.met, "success": walked.success}


def _walked(policy: Path, plan: LakePlan) -> Walked:
    with quietly():
        checkpoint = load_policy_checkpoint(policy, dtype=torch.float32)
    return walk_with(checkpoint, plan.lake, walks=plan.tested, seed=_WALK_SEED)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a policy does on problems that it has not learned from.

    Args:
        sampled: Share of its samples that end with the right result.
        greedy: The same, of its likeliest tokens.
        loss: Teacher-forced loss on right workings, nats a token.
    """

    sampled: float
    greedy: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class ProblemWorld:
    """What one world of arithmetic gave.

    Args:
        seed: Its seed.
        start: The policy that all methods start from.
        answered: By method.
    """

    seed: int
    start: Answered
    answered: Mapping[str, Answered]


def run_problems(scale: Scale, seed: int) -> ProblemWorld:
    """Every method in one world of arithmetic; what an earlier run has done is read."""
    world = set_up_world(world_plan(scale, seed), folder=scale.folder)
    few = world.problems[:EXAMPLES]
    rows = demonstrations(few, responses=1, slip=0.0, seed=seed)
    tested = demonstrations(world.watched, responses=4, slip=0.0, seed=_TESTED_SEED)
    steps = _steps(scale, 150)
    how = OfflineTraining(terms=(NegativeLogLikelihood(),), steps=steps, batch_size=16, learning_rate=RATE, seed=seed)
    trained = {name: world.train(replace(how, terms=(term,)), rows) for name, term in SUPERVISED.items()}
    halfway = world.train(replace(how, steps=max(steps // 2, 1)), rows)
    compared = world.preferences(halfway, problems=few)
    second = replace(how, terms=(DPO(beta=BETA),), steps=max(steps // 2, 1), learning_rate=DPO_RATE)
    trained[PREFERRED] = world.train(second, compared, start=halfway)
    return ProblemWorld(
        seed=seed,
        start=_answered(world, world.start, tested),
        answered={name: _answered(world, trained[name], tested) for name in ON_PROBLEMS},
    )


def _answered(world: ArithmeticWorld, policy: Path, tested: Sequence[Row]) -> Answered:
    return Answered(
        sampled=world.watch(policy).pass_at(1),
        greedy=world.watch(policy, temperature=0.0).pass_at(1),
        loss=likelihoods(policy, tested).loss,
    )


def lake_scale(scale: Scale) -> Scale:
    """Twice as many lakes as worlds: they are small."""
    return replace(scale, seeds=tuple(range(2 * len(scale.seeds))))
