"""`trueup train reward`: from preference data to a reward model."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from peft import LoraConfig
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed

from trueup.data.fingerprint import fingerprint
from trueup.data.rows import Row
from trueup.data.selection import Selection
from trueup.data.templates import TextFormat, infer_format
from trueup.errors import DataError, MissingExtraError, RecipeError, TrueupError
from trueup.files import cache_folder, move_into_place, output_errors, write_text
from trueup.models.checkpoints import load_tokenizer, new_reward_model
from trueup.models.reward import RewardModel, check_sharing
from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.config import MAX_SEED, Recipe, check_range, choice, dump
from trueup.recipes.data import DataRecipe
from trueup.recipes.provenance import versions
from trueup.recipes.resume import check_same_data, check_same_recipe, checkpoint_to_resume
from trueup.train.callbacks import MetricsFile, ProgressBar
from trueup.train.prepare import Prepared, prepare
from trueup.train.trainer import RewardTrainer
from trueup.types import RewardObjective

logger = logging.getLogger(__name__)

Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt"]


@dataclass(frozen=True, kw_only=True)
class LoraRecipe(Recipe):
    """A low-rank adapter; the reward head is always trained and saved with it.

    Args:
        rank: Rank of the update.
        alpha: Scale of the update; the update is multiplied by alpha / rank.
        dropout: Dropout on the adapter's input.
        target_modules: Names of adapted layers, or all linear ones.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        check_range(self, "rank", "alpha", low=1)
        check_range(self, "dropout", low=0, high=0.99)

    def build(self) -> LoraConfig:
        """Return PEFT's configuration."""
        return LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=self.target_modules
        )


@dataclass(frozen=True, kw_only=True)
class TrainReward(Recipe):
    """Train a reward model.

    Args:
        model: Directory or hub id of a causal model, an encoder, or a reward model to go on from.
        output: Run directory; the finished model is its `model` folder.
        data: Where preferences come from.
        objective: What a preference is worth.
        regularizer: What is added to it; none for plain Bradley-Terry.
        tokenizer: Directory or hub id, where it is not the model's own.
        from_scratch: Draw all weights; `model` need only hold a configuration.
        lora: Train an adapter instead of all weights.
        epochs: Passes over the data.
        max_steps: Optimiser steps, in place of epochs.
        batch_size: Rows of one optimiser step, over all devices.
        token_budget: Token slots that one device computes at a time; lowers memory, never changes the step.
        learning_rate: Peak learning rate of AdamW.
        schedule: Learning-rate schedule of transformers.
        warmup: Share of steps over which the rate rises.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient norm beyond which it is clipped; 0 for no clipping.
        bf16: Compute in bfloat16 (weights stay float32); by default on GPUs that can.
        gradient_checkpointing: Recompute activations in the backward pass to save memory.
        torch_compile: Compile the model.
        group_by_length: Put rows of like length into the same step; changes what a step sees.
        logging_steps: Steps between log lines.
        eval_steps: Steps between evaluations; each epoch by default.
        save_steps: Steps between checkpoints; each epoch by default.
        keep_checkpoints: Checkpoints kept.
        patience: Stop after so many evaluations without a better loss, and keep the best; None never stops.
        report_to: Trackers of transformers, such as tensorboard, wandb, trackio.
        seed: Seed of the head, the order of the data and flipped labels.
        resume: Go on from the last whole checkpoint.
        trust_remote_code: Run code that comes with a model.
    """

    model: str
    output: Path
    data: DataRecipe
    objective: choice(REWARD_OBJECTIVES, default="bradley_terry") = field(default_factory=BradleyTerry)  # type: ignore[valid-type]
    regularizer: choice(REWARD_REGULARIZERS, default="bsr") = field(default_factory=BatchSumToZero)  # type: ignore[valid-type]
    tokenizer: str | None = None
    from_scratch: bool = False
    lora: LoraRecipe | None = None
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 128
    token_budget: int = 16_384
    learning_rate: float = 5e-6
    schedule: Schedule = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    group_by_length: bool = False
    logging_steps: int = 10
    eval_steps: int | None = None
    save_steps: int | None = None
    keep_checkpoints: int = 2
    patience: int | None = None
    report_to: list[str] = field(default_factory=list)
    seed: int = 0
    resume: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_range(self, "batch_size", "token_budget", "logging_steps", "keep_checkpoints", low=1)
        check_range(self, "max_steps", "eval_steps", "save_steps", "patience", low=1)
        check_range(self, "weight_decay", "max_grad_norm", low=0)
        check_range(self, "warmup", low=0, high=1)
        check_range(self, "seed", low=0, high=MAX_SEED)
        for name in ("learning_rate", "epochs"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise RecipeError(f"{name} must be positive, got {getattr(self, name)}")
        if self.patience is not None:
            self._check_patience()

    def _check_patience(self) -> None:
        if self.data.eval is None:
            raise RecipeError("patience needs data.eval, whose loss decides when to stop")
        if self.save_steps and (not self.eval_steps or self.save_steps % self.eval_steps):
            raise RecipeError("patience keeps the best checkpoint: save_steps must be a multiple of eval_steps")

    @property
    def terms(self) -> tuple[RewardObjective, ...]:
        """The loss: the objective and what is added to it."""
        return tuple(term for term in (self.objective, self.regularizer) if term is not None)


@dataclass(frozen=True)
class TrainedReward:
    """What a run leaves behind.

    Args:
        model: Folder of the finished model.
        metrics: Last evaluation, or training summary where there is none.
        dropped: How many rows each reason took.
    """

    model: Path
    metrics: Mapping[str, float]
    dropped: Mapping[str, int]


def train_reward(recipe: TrainReward, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedReward:
    """Train a reward model as the recipe says.

    Raises:
        DataError: Data cannot be used; nothing was written.
        CheckpointError: The model or a checkpoint to resume from cannot be used.
        OutputError: The run directory cannot be written.
        NonFiniteError: The loss became NaN; the offending rows are in the run directory.
    """
    checkpoint = checkpoint_to_resume(recipe.output, resume=recipe.resume)
    selections = {
        name: recipe.data.select(file, seed=recipe.seed, noisy=name == "train") for name, file in _read(recipe).items()
    }
    tokenizer = load_tokenizer(recipe.tokenizer or recipe.model, trust_remote_code=recipe.trust_remote_code)
    set_seed(recipe.seed)
    model = _build_model(recipe, tokenizer)
    form = infer_format(
        selections["train"].kept,
        tokenizer,
        max_length=recipe.data.max_length,
        truncation_side=recipe.data.truncation_side,
        kind=recipe.data.text_format,
    )
    _open_run(recipe)
    prepared = {name: _prepare(recipe, chosen.kept, tokenizer, form) for name, chosen in selections.items()}
    dropped = _report_dropped(recipe, selections, prepared)
    train = prepared["train"].dataset
    check_sharing(model, [train[i] for i in range(min(2, len(train)))])
    logger.info(model.describe_sharing())
    provenance = _provenance(recipe, selections["train"].kept, dropped)
    trainer = RewardTrainer(
        model,
        _arguments(recipe, len(train)),
        terms=recipe.terms,
        train_dataset=train,
        eval_dataset=prepared["eval"].dataset if "eval" in prepared else None,
        tokenizer=tokenizer,
        form=form,
        token_budget=recipe.token_budget,
        provenance=provenance,
        callbacks=[MetricsFile(recipe.output / "metrics.jsonl"), ProgressBar(), *_early_stopping(recipe), *callbacks],
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    metrics = trainer.evaluate() if "eval" in prepared else trainer.state.log_history[-1]
    return TrainedReward(_finish(recipe, trainer), metrics, dropped)


def _read(recipe: TrainReward) -> dict[str, Any]:
    files = {"train": recipe.data.read(recipe.data.train, recipe.data.train_split)}
    if recipe.data.eval is not None:
        files["eval"] = recipe.data.read(recipe.data.eval, recipe.data.eval_split)
    return files


def _build_model(recipe: TrainReward, tokenizer: PreTrainedTokenizerBase) -> RewardModel:
    model = new_reward_model(
        recipe.model,
        tokenizer=tokenizer,
        generator=torch.Generator().manual_seed(recipe.seed),
        from_scratch=recipe.from_scratch,
        lora=recipe.lora.build() if recipe.lora else None,
        trust_remote_code=recipe.trust_remote_code,
    )
    if recipe.gradient_checkpointing:
        model.core.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _prepare(
    recipe: TrainReward, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> Prepared:
    return prepare(
        rows,
        tokenizer=tokenizer,
        form=form,
        learn=recipe.data.learn,
        too_long=recipe.data.too_long,
        cache=recipe.data.cache or cache_folder() / "tokens",
    )


def _report_dropped(
    recipe: TrainReward, selections: Mapping[str, Selection], prepared: Mapping[str, Prepared]
) -> dict[str, int]:
    """Count what is not used, list it in a side file, and stop if nothing is left."""
    counts: dict[str, int] = {}
    for name, selection in selections.items():
        whole = Selection(selection.kept, (*selection.dropped, *prepared[name].dropped))
        summary = whole.summary()
        if summary:
            path = recipe.output / f"dropped-{name}.jsonl"
            whole.write(path)
            words = ", ".join(f"{count} {reason}" for reason, count in summary.items())
            logger.warning(
                "%s: %d rows used; not used: %s (listed in %s)", name, len(prepared[name].dataset), words, path
            )
        if prepared[name].truncated:
            logger.warning("%s: %d rows reach the maximum length and may be cut", name, prepared[name].truncated)
        counts |= {f"{name}/{reason}": count for reason, count in summary.items()}
        if not len(prepared[name].dataset):
            source = recipe.data.train if name == "train" else recipe.data.eval
            raise DataError(
                f"zero usable rows: all {len(selection.kept)} exceed {recipe.data.max_length} tokens",
                file=source,
                cure="raise data.max_length or set data.too_long to truncate",
            )
    return counts


def _arguments(recipe: TrainReward, rows: int) -> TrainingArguments:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.batch_size % world:
        raise RecipeError(f"batch_size {recipe.batch_size} cannot be shared evenly by {world} devices")
    steps = recipe.max_steps or math.ceil(math.ceil(rows / recipe.batch_size) * recipe.epochs)
    evaluates = recipe.data.eval is not None
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported() if recipe.bf16 is None else recipe.bf16
    return TrainingArguments(
        output_dir=str(recipe.output),
        per_device_train_batch_size=recipe.batch_size // world,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
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
        eval_strategy=_when(recipe.eval_steps) if evaluates else "no",
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
        dataloader_pin_memory=False,
    )


def _when(steps: int | None) -> Literal["steps", "epoch"]:
    return "steps" if steps else "epoch"


def _early_stopping(recipe: TrainReward) -> list[TrainerCallback]:
    return [EarlyStoppingCallback(recipe.patience)] if recipe.patience is not None else []


def _open_run(recipe: TrainReward) -> None:
    path = recipe.output / "recipe.yaml"
    if recipe.resume and path.is_file():
        check_same_recipe(recipe, path)
    with output_errors(recipe.output):
        recipe.output.mkdir(parents=True, exist_ok=True)
    write_text(path, dump(replace(recipe, resume=False)))


def _provenance(recipe: TrainReward, rows: Sequence[Row], dropped: Mapping[str, int]) -> dict[str, Any]:
    applied = {
        type(term).__name__: term.applied(recipe.batch_size)
        for term in recipe.terms
        if isinstance(term, BatchSumToZero)
    }
    for name, value in applied.items():
        logger.info("%s: coefficient %g on the squared mean reward of a full step", name, value)
    return {
        "recipe": yaml.safe_load(dump(recipe)),
        "applied_coefficient": applied,
        "data": {"train": recipe.data.train, "rows": len(rows), "fingerprint": fingerprint(rows)},
        "dropped": dict(dropped),
        "versions": versions(),
        "seed": recipe.seed,
    }


def _finish(recipe: TrainReward, trainer: RewardTrainer) -> Path:
    """Write the finished model beside the checkpoints, whole or not at all."""
    target, temporary = recipe.output / "model", recipe.output / ".partial-model"
    with output_errors(target):
        trainer.save_model(str(temporary))
        if trainer.is_world_process_zero():
            move_into_place(temporary, target)
        trainer.accelerator.wait_for_everyone()
    return target
