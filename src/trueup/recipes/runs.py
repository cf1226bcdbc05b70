"""What every training run does: open its folder, account for its rows, train, and put the model into place."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback

from trueup.data.selection import Selection
from trueup.errors import DataError, RecipeError, TrueupError
from trueup.files import move_into_place, output_errors, remove_leftovers, write_text
from trueup.models.branch_model import check_sharing
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import new_policy
from trueup.recipes.config import dump
from trueup.recipes.resume import check_same_recipe
from trueup.recipes.run_settings import TrainingRun
from trueup.report.page import write_page
from trueup.report.training import read_log, training_page
from trueup.rewards.base import Reward
from trueup.rewards.load import load_reward
from trueup.rewards.weighted import WeightedSum
from trueup.train.branch_trainer import BranchTrainer
from trueup.train.callbacks import MetricsFile, ProgressBar
from trueup.train.prepare import Prepared

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """What a run leaves behind.

    Args:
        model: Folder of the finished model.
        metrics: Last evaluation, or training summary where there is none.
        dropped: How many rows each reason took.
    """

    model: Path
    metrics: Mapping[str, float]
    dropped: Mapping[str, int]


@contextlib.contextmanager
def adapter_errors(model: str) -> Iterator[None]:
    """Turn PEFT's word for layers that a model does not have into one message.

    Raises:
        RecipeError: The adapter cannot be put on the model.
    """
    try:
        yield
    except TrueupError:
        raise
    except ValueError as error:
        raise RecipeError(f"lora cannot be used with {model}: {str(error).splitlines()[0]}") from error


def build_policy_model(recipe: TrainingRun, tokenizer: PreTrainedTokenizerBase) -> PolicyModel:
    """The policy to train, as a recipe describes it.

    Raises:
        CheckpointError: There is no causal model at that place.
        RecipeError: The adapter cannot be put on the model.
    """
    with adapter_errors(recipe.model):
        model = new_policy(
            recipe.model,
            tokenizer=tokenizer,
            from_scratch=recipe.from_scratch,
            lora=recipe.lora.build() if recipe.lora else None,
            trust_remote_code=recipe.trust_remote_code,
        )
    if recipe.gradient_checkpointing:
        model.core.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def weighted_rewards(recipe: TrainingRun, places: Mapping[str, str], weights: Sequence[float]) -> Reward:
    """The weighted sum of rewards at several places, or the only one itself where it has no weight."""
    parts = [
        load_reward(f"{label}={place}", token_budget=recipe.token_budget, trust_remote_code=recipe.trust_remote_code)
        for label, place in places.items()
    ]
    return WeightedSum(parts=parts, weights=weights) if weights or len(parts) > 1 else parts[0]


def run(trainer: BranchTrainer[Any], checkpoint: Path | None, bar: ProgressBar) -> None:
    """Train, from a checkpoint if there is one."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise RecipeError("the GPU is out of memory; lower token_budget, which changes no number") from error
    finally:
        bar.close()


def report_dropped(
    output: Path,
    selections: Mapping[str, Selection],
    prepared: Mapping[str, Prepared],
    *,
    sources: Mapping[str, str],
    max_length: int,
) -> dict[str, int]:
    """Count what is not used, list it in a side file, and stop if nothing is left."""
    counts: dict[str, int] = {}
    for name, selection in selections.items():
        whole = Selection(selection.kept, (*selection.dropped, *prepared[name].dropped))
        summary = whole.summary()
        words = ", ".join(f"{count} {reason}" for reason, count in summary.items())
        if summary:
            path = output / f"dropped-{name}.jsonl"
            whole.write(path)
            logger.warning(
                "%s: %d rows used; not used: %s (listed in %s)", name, len(prepared[name].dataset), words, path
            )
        if prepared[name].truncated:
            logger.warning("%s: %d rows reach the maximum length and may be cut", name, prepared[name].truncated)
        counts |= {f"{name}/{reason}": count for reason, count in summary.items()}
        if not len(prepared[name].dataset):
            raise DataError(
                f"zero usable rows of {len(selection.kept)}: {words}",
                file=sources[name],
                cure=f"raise data.max_length ({max_length}) or set data.too_long to truncate",
            )
    return counts


def early_stopping(recipe: TrainingRun) -> list[TrainerCallback]:
    """The callback that patience asks for."""
    return [EarlyStoppingCallback(recipe.patience)] if recipe.patience is not None else []


def open_run(recipe: TrainingRun) -> None:
    """Make the run's folder, with the recipe in it; a resumed run must have the one it was begun with."""
    with output_errors(recipe.output):
        recipe.output.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") == "0":
            remove_leftovers(recipe.output)
    path = recipe.output / "recipe.yaml"
    if recipe.resume and path.is_file():
        check_same_recipe(recipe, path)
    else:
        write_text(path, dump(replace(recipe, resume=False)))


def settle(trainer: BranchTrainer[Any]) -> None:
    """See that shared prompts change no number, once the trainer has moved the weights to their device, and say how."""
    model, rows = trainer.unwrapped, trainer.train_dataset
    model.settle()
    check_sharing(model, [rows[i] for i in range(min(2, len(rows)))])
    logger.info(model.describe_sharing())


def learn(
    recipe: TrainingRun, trainer: BranchTrainer[Any], checkpoint: Path | None, bar: ProgressBar
) -> tuple[Path, Mapping[str, float]]:
    """Train, from a checkpoint if there is one: the finished model's folder, and its last evaluation or summary."""
    run(trainer, checkpoint, bar)
    metrics = trainer.evaluate() if trainer.eval_dataset is not None else trainer.state.log_history[-1]
    return finish(recipe, trainer), metrics


def callbacks_of(recipe: TrainingRun, bar: ProgressBar, more: Sequence[TrainerCallback]) -> list[TrainerCallback]:
    """What follows a run: its file of metrics, its bar, its patience, and what the caller brings."""
    return [MetricsFile(recipe.output / "metrics.jsonl"), bar, *early_stopping(recipe), *more]


def finish(recipe: TrainingRun, trainer: BranchTrainer[Any]) -> Path:
    """Write the finished model beside the checkpoints, whole or not at all."""
    target, temporary = recipe.output / "model", recipe.output / ".partial-model"
    with output_errors(target):
        try:
            trainer.save_model(str(temporary))
            if trainer.is_world_process_zero():
                move_into_place(temporary, target)
            trainer.accelerator.wait_for_everyone()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def write_training_page(
    recipe: TrainingRun,
    provenance: Mapping[str, Any],
    more: Mapping[str, str] | None = None,
    *,
    unit: str = "rows",
) -> None:
    """Write the run's page: what it trained on, with what, and its curves.

    Args:
        recipe: The run's recipe.
        provenance: What is known of the run, with `data` and `versions`.
        more: Further facts, in words.
        unit: What a row of the data is called.
    """
    data = provenance["data"]
    facts = {
        "data": f"{data['train']} ({data['rows']} {unit}, {data['fingerprint'][:16]})",
        "seed": str(recipe.seed),
        **(more or {}),
        **provenance["versions"],
    }
    log = read_log(recipe.output / "metrics.jsonl")
    page = training_page(recipe.output.resolve().name, log, facts=facts, recipe=dump(recipe))
    write_page(page, recipe.output / "report.html")
