"""Policies that learned to work problems from demonstrations with mistakes, made once and kept by their plan."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.rows import Row
from trueup.files import cache_folder
from trueup.lab.arithmetic.characters import build_character_policy
from trueup.lab.arithmetic.problems import ALPHABET, Problem, demonstrations, draw_problems, is_correct
from trueup.lab.fitting import Fit, quietly
from trueup.lab.scale_models import Shape
from trueup.policies.model import ModelPolicy, load_model_policy

# Raised when the same plan would give another policy.
_VERSION = 1
MAX_NEW_TOKENS = 24
"""More than the longest working and its end take."""

_TEST_SEED = 90_001


@dataclass(frozen=True, kw_only=True)
class ArithmeticPlan:
    """What a policy is made of.

    Args:
        problems: Problems it learns from; all others are never seen.
        responses: Workings of each.
        slip: Probability of a mistake in each number of a working.
        shape: Size of the model; its vocabulary is the alphabet.
        fit: How it is trained.
        seed: Seed of problems, workings, weights and order.
    """

    problems: int = 6_000
    responses: int = 2
    slip: float = 0.1
    shape: Shape = field(default_factory=lambda: Shape(width=64, layers=2, heads=4, positions=64))
    fit: Fit = field(default_factory=lambda: Fit(learning_rate=4e-3, batch_size=16, epochs=6.0, weight_decay=0.01))
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of everything that the finished policy depends on."""
        return hashlib.sha256(json.dumps([_VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]

    def own_problems(self) -> list[Problem]:
        """The problems of the demonstrations."""
        return draw_problems(self.problems, seed=self.seed)

    def other_problems(self, count: int, *, seed: int) -> list[Problem]:
        """Problems that the policy has not seen."""
        return draw_problems(count, seed=seed, exclude=frozenset(self.own_problems()))

    def rows(self) -> list[Row]:
        """The demonstrations."""
        return demonstrations(self.own_problems(), responses=self.responses, slip=self.slip, seed=self.seed)


def build_arithmetic_policy(plan: ArithmeticPlan, *, folder: Path | None = None) -> Path:
    """Make a policy, or find the one that was made from the same plan; the folder also holds `quality.json`."""
    return build_character_policy(
        plan.key,
        plan.rows,
        folder=folder or cache_folder() / "lab" / "policies",
        alphabet=ALPHABET,
        shape=plan.shape,
        fit=plan.fit,
        seed=plan.seed,
        provenance={"plan": asdict(plan)},
        quality=lambda made: measure_quality(load_arithmetic_policy(made), plan),
    )


def load_arithmetic_policy(folder: Path, *, temperature: float = 1.0) -> ModelPolicy:
    """A built policy."""
    with quietly():
        return load_model_policy(str(folder), max_new_tokens=MAX_NEW_TOKENS, temperature=temperature)


def measure_quality(
    policy: ModelPolicy, plan: ArithmeticPlan, *, problems: int = 100, samples: int = 16
) -> dict[str, Any]:
    """How good samples are on problems that training has not seen."""
    asked = [one.text for one in plan.other_problems(problems, seed=_TEST_SEED)]
    drawn = policy.sample(asked, samples, seed=0)
    right = [[one.finished and is_correct(text, one.text) for one in group]
             for text, group in zip(asked, drawn, strict=True)]  # fmt: skip
    flat = [one for group in drawn for one in group]
    return {
        "parameters": sum(p.numel() for p in policy.checkpoint.model.parameters()),
        "pass@1": float(np.mean(right)),
        "solved_once": float(np.mean(np.any(right, axis=1))),
        "entropy": float(-np.mean([one.logprob for one in flat])),
        "different": float(np.mean([len({one.text for one in group}) / samples for group in drawn])),
        "ended": float(np.mean([one.finished for one in flat])),
        "mean_tokens": float(np.mean([one.tokens for one in flat])),
        "problems": problems,
        "samples": samples,
    }
