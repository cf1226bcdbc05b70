"""What all training recipes have in common: the model, the optimiser's settings, and what is written when."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peft import LoraConfig

from trueup.errors import RecipeError
from trueup.recipes.config import MAX_SEED, Recipe, check_range

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
class TrainingRun(Recipe):
    """Settings of any training run.

    Args:
        model: Directory or hub id of the model to start from.
        output: Run directory; the finished model is its `model` folder.
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
        seed: Seed of all that is drawn.
        resume: Go on from the last whole checkpoint.
        trust_remote_code: Run code that comes with a model.
    """

    model: str
    output: Path
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
        if not self.evaluates:
            raise RecipeError("patience needs data.eval, whose loss decides when to stop")
        if self.save_steps and (not self.eval_steps or self.save_steps % self.eval_steps):
            raise RecipeError("patience keeps the best checkpoint: save_steps must be a multiple of eval_steps")

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch."""
        return False
