"""`trueup demo`: the whole story on data generated here, in a few minutes on two cores."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from trueup.data.rows import Row
from trueup.data.writing import write_rows
from trueup.errors import OutputError, RecipeError
from trueup.files import cache_folder, move_into_place, output_errors, write_text
from trueup.lab.policies import PolicyPlan, build_policy
from trueup.lab.sampled_shifts import sampled_shifts
from trueup.lab.world import World
from trueup.objectives import BatchSumToZero
from trueup.recipes.audit_reward import AuditReward, RewardAudit, audit_reward
from trueup.recipes.best_of_n import BestOfN, OverOptimization, best_of_n
from trueup.recipes.config import Recipe, check_range
from trueup.recipes.data import DataRecipe
from trueup.recipes.demo_page import demo_page
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.recipes.train_settings import EnsembleRecipe
from trueup.report.page import write_page
from trueup.train.callbacks import ProgressBar

logger = logging.getLogger(__name__)

SPLITS = ("in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")
PROXIES = ("BT", "BSR", "ensemble")
GOLD = "trueup.lab.world.functions:gold"
_POOL_SEED = 70_001
# The folder was made by a demo where one of these is in it.
_MARKS = (Path("data") / "train.jsonl", Path("pool.jsonl"))


@dataclass(frozen=True, kw_only=True)
class Demo(Recipe):
    """Build a policy, train proxies of gold on its samples, optimise against them, audit them, and write one page.

    Args:
        output: Folder of everything the demo makes, but for the policy, which is kept in the user's cache folder.
        policy_prompts: Prompts whose answers the policy learns from.
        policy_epochs: Passes over them.
        width: Hidden size of policy and proxies.
        layers: Their layers.
        prompts: Prompts with samples of the policy that gold compares: one labelled pair each to learn from, and one
            to test.
        held_out: Prompts of each test on unseen prompts.
        coefficient: Strength of batch-wise sum-to-zero in the second proxy.
        members: Heads of the ensemble.
        epochs: Passes over the labelled pairs.
        batch_size: Pairs of a step.
        learning_rate: Peak learning rate of the proxies.
        pool_prompts: Prompts that best-of-n answers.
        samples: Samples of each to choose from.
        audit_rows: Rows of each test that are audited.
        threads: Threads of the CPU; two are best for models of this size.
        seed: Seed of everything.
        overwrite: Replace an earlier demo in the same folder.
    """

    output: Path = Path("demo")
    policy_prompts: int = 12_000
    policy_epochs: float = 1.5
    width: int = 96
    layers: int = 3
    prompts: int = 2_500
    held_out: int = 200
    coefficient: float = 0.01
    members: int = 5
    epochs: float = 2.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    pool_prompts: int = 48
    samples: int = 256
    audit_rows: int = 200
    threads: int = 2
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_range(self, "policy_prompts", "prompts", "held_out", "audit_rows", "layers", "pool_prompts", low=1)
        check_range(self, "threads", "batch_size", low=1)
        check_range(self, "members", "samples", low=2)
        check_range(self, "seed", low=0)
        if self.width < 4 or self.width % 4:
            raise RecipeError(f"width must be a multiple of 4, got {self.width}: there are four heads")

    @property
    def policy(self) -> PolicyPlan:
        """What the policy is made of."""
        usual = PolicyPlan()
        return replace(
            usual,
            world=self.seed,
            seed=self.seed,
            prompts=self.policy_prompts,
            shape=replace(usual.shape, width=self.width, layers=self.layers),
            fit=replace(usual.fit, epochs=self.policy_epochs),
        )


@dataclass(frozen=True)
class FinishedDemo:
    """What the demo leaves behind.

    Args:
        audit: The audit of the proxies.
        optimized: Best-of-n by the proxies.
        report: The page.
    """

    audit: RewardAudit
    optimized: OverOptimization
    report: Path

    def summary(self) -> str:
        """The page and its most telling numbers."""
        lines = telling_numbers(self.optimized.result, self.audit.audit)
        return "\n".join(["", f"report: {self.report.resolve()}", "", *(f"  {line}" for line in lines)])


def telling_numbers(optimized: Mapping[str, Any], audit: Mapping[str, Any]) -> list[str]:
    """Three lines: what optimisation does to gold, what shifts cost, and what fools the proxies."""
    results, last = optimized["results"], int(optimized["n"][-1])
    gold = ", ".join(
        f"{name} {max(point['value'] for point in one['gold_gain']):+.2f} at best, "
        f"{one['gold_gain'][-1]['value']:+.2f} at n = {last}"
        for name, one in results.items()
    )
    ranked = ", ".join(
        f"{name} {_percent(by_split['in_domain']['accuracy'])} -> {_percent(by_split['mutual_disjoint']['accuracy'])}"
        for name, by_split in audit["results"].items()
    )
    fooled = []
    for name, battery in audit["hacks"].items():
        worst = max(battery, key=lambda hack: battery[hack]["win_rate"]["value"])
        fooled.append(f"{name} by {worst.replace('_', ' ')} in {_percent(battery[worst]['win_rate'])}")
    return [
        f"1. what best-of-n by each proxy does to gold: {gold}",
        f"2. pairs ranked right, as trained -> on new prompts and new writers: {ranked}",
        f"3. most often fooled: {', '.join(fooled)} of cases",
    ]


def _percent(estimate: Mapping[str, Any]) -> str:
    return f"{100 * estimate['value']:.0f}%"


def demo(recipe: Demo) -> FinishedDemo:
    """Build the policy, train three proxies on gold's comparisons, optimise, audit, and write the page.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
    """
    _make_room(recipe)
    before = torch.get_num_threads()
    torch.set_num_threads(min(recipe.threads, os.cpu_count() or 1))
    parts = "{desc}: part {n_fmt} of {total_fmt} |{bar}| {elapsed}"
    try:
        with tqdm(total=4 + len(PROXIES), desc="demo", unit="part", bar_format=parts) as bar:
            return _demo(recipe, bar)
    finally:
        torch.set_num_threads(before)


def _demo(recipe: Demo, bar: Any) -> FinishedDemo:
    output = recipe.output
    bar.write("building the world's policy")
    learning = ProgressBar("policy")
    policy = build_policy(recipe.policy, folder=cache_folder() / "lab" / "policies", callbacks=[learning])
    learning.close()
    bar.update()
    bar.write("gold compares its samples")
    splits = _splits(recipe, policy)
    bar.update()
    for name in PROXIES:
        bar.write(f"training {name}")
        train_reward(_training(recipe, name, policy))
        bar.update()
    bar.write("best-of-n by each proxy")
    optimized = best_of_n(_optimizing(recipe, policy))
    bar.update()
    audited = audit_reward(_auditing(recipe))
    report = output / "report.html"
    quality = json.loads((policy / "quality.json").read_text(encoding="utf-8"))
    runs = {name: output / name / "metrics.jsonl" for name in PROXIES}
    write_page(demo_page(optimized.result, audited.audit, splits, quality=quality, runs=runs), report)
    bar.update()
    return FinishedDemo(audited, optimized, report)


def _make_room(recipe: Demo) -> None:
    output = recipe.output
    if output.exists() and any(output.iterdir()):
        if not recipe.overwrite or not any((output / mark).exists() for mark in _MARKS):
            raise OutputError(f"{output}: is not empty; choose another --output, or --overwrite an earlier demo")
        shutil.rmtree(output)
    with output_errors(output):
        output.mkdir(parents=True, exist_ok=True)


def _splits(recipe: Demo, policy: Path) -> dict[str, Sequence[Row]]:
    """The prompts of the pool and the five splits, also on disk, where a reader can look at them."""
    world, plan = World(recipe.seed), recipe.policy
    asked = world.prompts(recipe.pool_prompts, families=plan.families, seed=_POOL_SEED)
    texts = [one.text for one in asked]
    write_text(recipe.output / "pool.jsonl", "".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    made = sampled_shifts(
        world,
        policy,
        recipe.prompts,
        held_out=recipe.held_out,
        families=plan.families,
        exclude=frozenset(texts),
        seed=recipe.seed,
    )
    splits: dict[str, Sequence[Row]] = {
        name: rows if name == "train" else rows[: recipe.audit_rows] for name, rows in made.items()
    }
    temporary = recipe.output / ".partial-data"
    for name, rows in splits.items():
        write_rows(rows, temporary / f"{name}.jsonl")
    move_into_place(temporary, recipe.output / "data")
    return splits


def _training(recipe: Demo, name: str, policy: Path) -> TrainReward:
    return TrainReward(
        model=str(policy),
        output=recipe.output / name,
        data=DataRecipe(train=str(recipe.output / "data" / "train.jsonl"), max_length=512),
        regularizer=BatchSumToZero(coefficient=recipe.coefficient) if name == "BSR" else None,
        ensemble=EnsembleRecipe(size=recipe.members) if name == "ensemble" else None,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        schedule="cosine",
        epochs=recipe.epochs,
        logging_steps=20,
        seed=recipe.seed,
    )


def _places(recipe: Demo) -> dict[str, str]:
    return {name: str(recipe.output / name) for name in PROXIES}


def _optimizing(recipe: Demo, policy: Path) -> BestOfN:
    return BestOfN(
        policy=str(policy),
        prompts=str(recipe.output / "pool.jsonl"),
        proxy=_places(recipe),
        gold=f"gold={GOLD}",
        gold_features=f"{GOLD}_features",
        samples=recipe.samples,
        max_new_tokens=64,
        output=recipe.output / "best_of_n",
        seed=recipe.seed,
    )


def _auditing(recipe: Demo) -> AuditReward:
    return AuditReward(
        models=[f"{name}={place}" for name, place in _places(recipe).items()],
        data={name: str(recipe.output / "data" / f"{name}.jsonl") for name in SPLITS},
        output=recipe.output / "audit",
        hack_prompts=min(recipe.audit_rows, 100),
        seed=recipe.seed,
    )
