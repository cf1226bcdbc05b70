"""`trueup lab build`: a scale policy of the small language world, made once."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trueup.errors import RecipeError
from trueup.files import cache_folder, check_output
from trueup.lab.policies import PolicyPlan, build_policy
from trueup.recipes.config import Recipe, check_range
from trueup.train.callbacks import ProgressBar


@dataclass(frozen=True, kw_only=True)
class LabBuild(Recipe):
    """Train a small policy on the language world's text, or find the one that was trained from the same settings.

    Args:
        output: Folder in which policies are kept; the user's cache folder by default.
        world: Seed of the world.
        seed: Seed of the text, the weights and the order.
        prompts: Prompts that it learns from. The default is made in three minutes; reproductions use 16,000.
        responses: Answers to each.
        width: Hidden size.
        layers: Decoder layers.
        epochs: Passes over the text.
        learning_rate: Peak learning rate.
        threads: Threads of the CPU; two are best for models of this size.
    """

    output: Path | None = None
    world: int = 0
    seed: int = 0
    prompts: int = 12_000
    responses: int = PolicyPlan().responses
    width: int = PolicyPlan().shape.width
    layers: int = PolicyPlan().shape.layers
    epochs: float = PolicyPlan().fit.epochs
    learning_rate: float = PolicyPlan().fit.learning_rate
    threads: int = 2

    def __post_init__(self) -> None:
        check_range(self, "prompts", "responses", "width", "layers", "threads", low=1)
        check_range(self, "world", "seed", low=0)
        if not self.epochs > 0 or not self.learning_rate > 0:
            raise RecipeError("epochs and learning_rate must be positive")
        if self.width % 4:
            raise RecipeError(f"width must be a multiple of 4, got {self.width}: there are four heads")

    @property
    def plan(self) -> PolicyPlan:
        """What the policy is made of."""
        usual = PolicyPlan()
        return replace(
            usual,
            world=self.world,
            seed=self.seed,
            prompts=self.prompts,
            responses=self.responses,
            shape=replace(usual.shape, width=self.width, layers=self.layers),
            fit=replace(usual.fit, epochs=self.epochs, learning_rate=self.learning_rate),
        )


@dataclass(frozen=True)
class BuiltPolicy:
    """A scale policy.

    Args:
        folder: An ordinary checkpoint.
        quality: How good its samples are, as in its `quality.json`.
        seconds: How long this call took.
    """

    folder: Path
    quality: Mapping[str, Any]
    seconds: float

    def summary(self) -> str:
        """Where it is, and how good."""
        found = self.quality
        lines = [
            f"policy: {self.folder}",
            f"  {found['parameters']:,} parameters, ready after {self.seconds:.0f} s",
            f"  {found['grammatical_sentences']:.0%} of its sentences are grammatical, {found['ended']:.0%} of its "
            f"answers end themselves, {found['mean_tokens']:.0f} tokens on average",
            f"  gold {found['gold_mean']:.2f} (0 is the mean of the world's writers, 1 their standard deviation), "
            f"standard deviation within a prompt {found['gold_std_within_prompt']:.2f}",
        ]
        return "\n".join(lines)


def lab_build(recipe: LabBuild) -> BuiltPolicy:
    """Build the policy, or find it.

    Raises:
        OutputError: The folder cannot be written.
    """
    home = recipe.output or cache_folder() / "lab" / "policies"
    check_output(home, folder=True)
    started, threads = time.perf_counter(), torch.get_num_threads()
    bar = ProgressBar("policy")
    torch.set_num_threads(recipe.threads)
    try:
        folder = build_policy(recipe.plan, folder=home, callbacks=[bar])
    finally:
        bar.close()
        torch.set_num_threads(threads)
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    return BuiltPolicy(folder, quality, time.perf_counter() - started)
