"""`trueup demo`: the whole story on data generated here, in a few minutes on two cores."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trueup.data.rows import Row, prompt_text
from trueup.data.writing import write_rows
from trueup.errors import OutputError, RecipeError
from trueup.files import move_into_place, output_errors
from trueup.lab.scale_models import Shape, write_scale_model
from trueup.lab.world import World
from trueup.objectives import BatchSumToZero
from trueup.recipes.audit_reward import AuditReward, RewardAudit, audit_reward
from trueup.recipes.config import Recipe
from trueup.recipes.data import DataRecipe
from trueup.recipes.demo_page import demo_page
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.report.page import write_page

logger = logging.getLogger(__name__)

SPLITS = ("in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")


@dataclass(frozen=True, kw_only=True)
class Demo(Recipe):
    """Train two reward models on a small language world, audit both, and write one page.

    Args:
        output: Folder of everything the demo makes.
        prompts: Training prompts, each with one labelled pair.
        held_out: Prompts of each test on unseen prompts.
        temperature: Noise of the labels, in standard deviations of gold.
        coefficient: Strength of batch-wise sum-to-zero in the second model.
        epochs: Passes over the training pairs.
        batch_size: Pairs of a step.
        learning_rate: Peak learning rate.
        width: Hidden size of the models.
        layers: Layers of the models.
        audit_rows: Rows of each test that are audited.
        seed: Seed of the world and of both models.
        overwrite: Replace an earlier demo in the same folder.
    """

    output: Path = Path("demo")
    prompts: int = 6000
    held_out: int = 400
    temperature: float = 0.25
    coefficient: float = 0.01
    epochs: float = 2.5
    batch_size: int = 32
    learning_rate: float = 2e-3
    width: int = 128
    layers: int = 3
    audit_rows: int = 400
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("prompts", "held_out", "audit_rows", "width", "layers"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class FinishedDemo:
    """What the demo leaves behind.

    Args:
        audit: The audit of both models.
        report: The page.
    """

    audit: RewardAudit
    report: Path

    def summary(self) -> str:
        """The page and its three most telling numbers."""
        results, hacks = self.audit.audit["results"], self.audit.audit["hacks"]
        lines = ["", f"report: {self.report.resolve()}", ""]
        return "\n".join([*lines, *(f"  {line}" for line in telling_numbers(results, hacks))])


def telling_numbers(results: Mapping[str, Any], hacks: Mapping[str, Any]) -> list[str]:
    """Three lines: what shifts cost, what fools the models, and how far rewards spread."""
    ranked = ", ".join(
        f"{name} {_percent(by_split['in_domain']['accuracy'])} -> {_percent(by_split['mutual_disjoint']['accuracy'])}"
        for name, by_split in results.items()
    )
    fooled = []
    for name, battery in hacks.items():
        worst = max(battery, key=lambda hack: battery[hack]["win_rate"]["value"])
        fooled.append(f"{name} by {worst.replace('_', ' ')} in {_percent(battery[worst]['win_rate'])}")
    spread = ", ".join(f"{name} {by['mutual_disjoint']['reward']['std']['value']:.2f}" for name, by in results.items())
    return [
        f"1. pairs ranked right, as trained -> on new prompts and new writers: {ranked}",
        f"2. most often fooled: {', '.join(fooled)} of cases",
        f"3. spread of rewards on new prompts and new writers: {spread}",
    ]


def _percent(estimate: Mapping[str, Any]) -> str:
    return f"{100 * estimate['value']:.0f}%"


def demo(recipe: Demo) -> FinishedDemo:
    """Generate a world, train with and without sum-to-zero, audit both on four shifts, and write the page.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
    """
    output = recipe.output
    _make_room(recipe)
    with tqdm(
        total=5, desc="demo", unit="part", bar_format="{desc}: part {n_fmt} of {total_fmt} |{bar}| {elapsed}"
    ) as bar:
        splits = _world(recipe)
        bar.update()
        base = output / "base"
        texts = [f"{prompt_text(row.prompt)}\n{r.text}" for row in splits["train"] for r in row.responses]
        write_scale_model(base, texts, shape=Shape(width=recipe.width, layers=recipe.layers))
        bar.update()
        for name, regularizer in (("BT", None), ("BSR", BatchSumToZero(coefficient=recipe.coefficient))):
            bar.write(f"training {name}")
            train_reward(_training(recipe, name, regularizer))
            bar.update()
        audited = audit_reward(_auditing(recipe))
        report = output / "report.html"
        write_page(
            demo_page(audited.audit, splits, runs={n: output / n / "metrics.jsonl" for n in ("BT", "BSR")}), report
        )
        bar.update()
    return FinishedDemo(audited, report)


def _make_room(recipe: Demo) -> None:
    mark = recipe.output / "data" / "train.jsonl"
    if recipe.output.exists() and any(recipe.output.iterdir()):
        if not recipe.overwrite or not (mark.exists() or (recipe.output / "base").exists()):
            raise OutputError(f"{recipe.output}: is not empty; choose another --output, or --overwrite an earlier demo")
        shutil.rmtree(recipe.output)
    with output_errors(recipe.output):
        recipe.output.mkdir(parents=True, exist_ok=True)


def _world(recipe: Demo) -> dict[str, Sequence[Row]]:
    """The five splits, also on disk, where a reader can look at them."""
    world = World(recipe.seed)
    made = world.four_shifts(recipe.prompts, held_out=recipe.held_out, temperature=recipe.temperature)
    splits: dict[str, Sequence[Row]] = {
        name: rows if name == "train" else rows[: recipe.audit_rows] for name, rows in made.items()
    }
    temporary = recipe.output / ".partial-data"
    for name, rows in splits.items():
        write_rows(rows, temporary / f"{name}.jsonl")
    move_into_place(temporary, recipe.output / "data")
    return splits


def _training(recipe: Demo, name: str, regularizer: BatchSumToZero | None) -> TrainReward:
    return TrainReward(
        model=str(recipe.output / "base"),
        from_scratch=True,
        output=recipe.output / name,
        data=DataRecipe(train=str(recipe.output / "data" / "train.jsonl"), max_length=512),
        regularizer=regularizer,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        schedule="cosine",
        epochs=recipe.epochs,
        logging_steps=20,
        seed=recipe.seed,
    )


def _auditing(recipe: Demo) -> AuditReward:
    return AuditReward(
        models=[f"{name}={recipe.output / name}" for name in ("BT", "BSR")],
        data={name: str(recipe.output / "data" / f"{name}.jsonl") for name in SPLITS},
        output=recipe.output / "audit",
        seed=recipe.seed,
    )
