"""From a training recipe to the arguments of transformers' trainer."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from trueup.errors import MissingExtraError, RecipeError
from trueup.recipes.run_settings import TrainingRun
from trueup.train.devices import share_of


def training_arguments(recipe: TrainingRun, *, rows: int, steps: int | None = None) -> TrainingArguments:
    """Transformers' arguments for a run over so many rows.

    Args:
        recipe: The run's recipe.
        rows: Rows of the data set.
        steps: Optimiser steps, where the recipe's passes over the rows do not say.

    Raises:
        RecipeError: Fields do not fit together, or a tracker is unknown.
        MissingExtraError: A tracker is not installed.
    """
    share = share_of(recipe.batch_size)
    given = recipe.max_steps or steps
    steps = given or math.ceil(math.ceil(rows / recipe.batch_size) * recipe.epochs)
    _check_trackers(recipe.report_to)
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported() if recipe.bf16 is None else recipe.bf16
    return TrainingArguments(
        output_dir=str(recipe.output),
        per_device_train_batch_size=share,
        num_train_epochs=recipe.epochs,
        max_steps=given or -1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=round(recipe.warmup * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        torch_compile=recipe.torch_compile,
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy=_when(recipe.eval_steps) if recipe.evaluates else "no",
        eval_steps=recipe.eval_steps,
        save_strategy=_when(recipe.save_steps or (recipe.eval_steps if recipe.patience else None)),
        save_steps=recipe.save_steps or recipe.eval_steps or 500,
        save_total_limit=recipe.keep_checkpoints,
        load_best_model_at_end=recipe.patience is not None,
        metric_for_best_model="eval_loss" if recipe.patience is not None else None,
        greater_is_better=False if recipe.patience is not None else None,
        train_sampling_strategy="group_by_length" if recipe.group_by_length else "random",
        report_to=recipe.report_to or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        restore_callback_states_from_checkpoint=True,  # so that patience goes on where it was
        dataloader_pin_memory=False,
    )


def _check_trackers(names: Sequence[str]) -> None:
    """Stop early where a tracker is unknown or not installed."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise RecipeError(
                f"report_to: unknown tracker {name!r}; known: {', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            )
        if name not in get_available_reporting_integrations():
            raise MissingExtraError(f"report_to: {name} is not installed; `pip install {name}`, or leave it out")


def _when(steps: int | None) -> Literal["steps", "epoch"]:
    return "steps" if steps else "epoch"
