"""`trueup train reward`: from preference data to a reward model."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from trueup.data.fingerprint import fingerprint
from trueup.data.rows import Row
from trueup.data.templates import TextFormat, infer_format
from trueup.files import cache_folder
from trueup.models.checkpoints import new_reward_model
from trueup.models.heads.ensemble import with_heads
from trueup.models.lora_members import with_lora_members
from trueup.models.reward import RewardModel
from trueup.models.tokenizers import load_tokenizer
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.arguments import training_arguments
from trueup.recipes.card import card_of
from trueup.recipes.config import dump
from trueup.recipes.provenance import versions
from trueup.recipes.resume import check_same_data, checkpoint_to_resume
from trueup.recipes.runs import (
    TrainedRun,
    adapter_errors,
    callbacks_of,
    learn,
    open_run,
    report_dropped,
    settle,
    write_training_page,
)
from trueup.recipes.train_settings import TrainReward
from trueup.report.card import write_card
from trueup.train.callbacks import ProgressBar
from trueup.train.ensemble_step import Bootstrap
from trueup.train.ensemble_trainer import EnsembleTrainer
from trueup.train.lora_trainer import LoraEnsembleTrainer
from trueup.train.prepare import Prepared, prepare
from trueup.train.reward_trainer import RewardTrainer

__all__ = ["TrainReward", "TrainedRun", "train_reward"]

logger = logging.getLogger(__name__)


def train_reward(recipe: TrainReward, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedRun:
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
    open_run(recipe)
    prepared = {name: _prepare(recipe, chosen.kept, tokenizer, form) for name, chosen in selections.items()}
    sources = {"train": recipe.data.train, "eval": str(recipe.data.eval)}
    dropped = report_dropped(recipe.output, selections, prepared, sources=sources, max_length=recipe.data.max_length)
    train = prepared["train"].dataset
    provenance = _provenance(recipe, selections["train"].kept, dropped)
    if checkpoint is not None:
        known = provenance["data"]["fingerprint"]
        check_same_data(checkpoint, fingerprint=known, source=recipe.data.train)
    bar = ProgressBar()
    trainer = _trainer_of(recipe)(
        model,
        training_arguments(recipe, rows=len(train)),
        terms=recipe.terms,
        train_dataset=train,
        eval_dataset=prepared["eval"].dataset if "eval" in prepared else None,
        tokenizer=tokenizer,
        form=form,
        token_budget=recipe.token_budget,
        provenance=provenance,
        callbacks=callbacks_of(recipe, bar, callbacks),
    )
    settle(trainer)
    folder, metrics = learn(recipe, trainer, checkpoint, bar)
    if trainer.is_world_process_zero():
        _write_card(folder, metrics if "eval" in prepared else {})
        write_training_page(recipe, provenance)
    return TrainedRun(folder, metrics, dropped)


def _trainer_of(recipe: TrainReward) -> Callable[..., RewardTrainer]:
    if recipe.ensemble is None:
        return RewardTrainer
    bootstrap = Bootstrap(seed=recipe.seed, members=recipe.ensemble.size) if recipe.ensemble.bootstrap else None
    return partial(EnsembleTrainer if recipe.ensemble.kind == "heads" else LoraEnsembleTrainer, bootstrap=bootstrap)


def _read(recipe: TrainReward) -> dict[str, Any]:
    files = {"train": recipe.data.read(recipe.data.train, recipe.data.train_split)}
    if recipe.data.eval is not None:
        files["eval"] = recipe.data.read(recipe.data.eval, recipe.data.eval_split)
    return files


def _build_model(recipe: TrainReward, tokenizer: PreTrainedTokenizerBase) -> RewardModel:
    generator = torch.Generator().manual_seed(recipe.seed)
    with adapter_errors(recipe.model):
        model = new_reward_model(
            recipe.model,
            tokenizer=tokenizer,
            generator=generator,
            from_scratch=recipe.from_scratch,
            lora=recipe.adapter.build() if recipe.adapter else None,
            trust_remote_code=recipe.trust_remote_code,
        )
    members = recipe.ensemble
    if members is not None and members.kind == "heads":
        model = with_heads(model, members.size, generator=generator)
    elif members is not None:
        model = with_lora_members(model, members.size, layers=members.layers, generator=generator)
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


def _provenance(recipe: TrainReward, rows: Sequence[Row], dropped: Mapping[str, int]) -> dict[str, Any]:
    applied = {
        type(term).__name__: term.applied(recipe.batch_size)
        for term in recipe.terms
        if isinstance(term, BatchSumToZero)
    }
    for name, value in applied.items():
        logger.info("%s: coefficient %g on the squared mean reward of a full step", name, value)
    whole = yaml.safe_load(dump(recipe))
    return {
        "recipe": whole,
        **({"ensemble": _without_layers(whole["ensemble"])} if recipe.ensemble is not None else {}),
        "applied_coefficient": applied,
        "data": {"train": recipe.data.train, "rows": len(rows), "fingerprint": fingerprint(rows)},
        "dropped": dict(dropped),
        "versions": versions(),
        "seed": recipe.seed,
    }


def _without_layers(ensemble: Mapping[str, Any]) -> dict[str, Any]:
    """The ensemble's settings; how many layers are adapted says something of adapters only."""
    unused = {"layers"} if ensemble["kind"] == "heads" else set()
    return {name: value for name, value in ensemble.items() if name not in unused}


def _write_card(folder: Path, metrics: Mapping[str, float]) -> None:
    shown = {name: value for name, value in metrics.items() if name in ("eval_loss", "eval_accuracy", "eval_margin")}
    write_card(card_of(folder, metrics=shown), folder)
