"""Training in this process, on rows in memory: what experiments do many times over."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from trueup.data.rows import Row
from trueup.data.templates import TextFormat, infer_format
from trueup.models.checkpoints import Checkpoint, new_reward_model
from trueup.models.policy_checkpoints import PolicyCheckpoint, new_policy
from trueup.models.tokenizers import load_tokenizer
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.branch_trainer import BranchTrainer
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.prepare import prepare, prepare_replies
from trueup.train.reward_trainer import RewardTrainer
from trueup.types import RewardObjective

MAX_LENGTH = 512
_TOKEN_BUDGET = 8_192


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Settings of one training.

    Args:
        learning_rate: Peak rate of AdamW; it rises over the first steps and falls to zero along a cosine.
        batch_size: Rows of a step.
        epochs: Passes over the rows.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient norm beyond which it is clipped; 0 for no clipping.
    """

    learning_rate: float
    batch_size: int
    epochs: float = 1.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


def fit_policy(
    rows: Sequence[Row],
    base: Path,
    *,
    fit: Fit,
    seed: int,
    from_scratch: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> PolicyCheckpoint:
    """Fine-tune a policy on all responses of the rows."""
    with quietly():
        tokenizer = load_tokenizer(base)
        set_seed(seed)
        model = new_policy(base, tokenizer=tokenizer, from_scratch=from_scratch)
        form = infer_format(rows, tokenizer, max_length=MAX_LENGTH)
        dataset = prepare_replies(rows, tokenizer=tokenizer, form=form).dataset
        terms = (NegativeLogLikelihood(),)
        options = _options(tokenizer, form, callbacks) | {"terms": terms, "train_dataset": dataset}
        _train(PolicyTrainer, model, options, fit=fit, steps=len(dataset), seed=seed)
    return PolicyCheckpoint(model.eval(), tokenizer, form)


def fit_reward(
    rows: Sequence[Row],
    base: Path,
    *,
    fit: Fit,
    seed: int,
    terms: Sequence[RewardObjective] = (BradleyTerry(),),
    callbacks: Sequence[TrainerCallback] = (),
) -> Checkpoint:
    """Train a reward model on labelled pairs; its head is drawn, and its rows ordered, by the seed."""
    with quietly():
        tokenizer = load_tokenizer(base)
        set_seed(seed)
        model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(seed))
        form = infer_format(rows, tokenizer, max_length=MAX_LENGTH)
        dataset = prepare(rows, tokenizer=tokenizer, form=form).dataset
        options = _options(tokenizer, form, callbacks) | {"terms": tuple(terms), "train_dataset": dataset}
        _train(RewardTrainer, model, options, fit=fit, steps=len(dataset), seed=seed)
    return Checkpoint(model.eval(), tokenizer, form)


def _options(
    tokenizer: PreTrainedTokenizerBase, form: TextFormat, callbacks: Sequence[TrainerCallback]
) -> dict[str, Any]:
    return {"tokenizer": tokenizer, "form": form, "token_budget": _TOKEN_BUDGET, "callbacks": callbacks}


def _train(
    trainer: type[BranchTrainer[Any]], model: Any, options: dict[str, Any], *, fit: Fit, steps: int, seed: int
) -> None:
    """Train without checkpoints or logs; the folder that transformers asks for is gone afterwards."""
    total = max(round(fit.epochs * steps / fit.batch_size), 1)
    with tempfile.TemporaryDirectory() as folder:
        args = quiet_arguments(
            folder,
            per_device_train_batch_size=fit.batch_size,
            max_steps=total,
            learning_rate=fit.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=min(20, total // 10),
            weight_decay=fit.weight_decay,
            max_grad_norm=fit.max_grad_norm,
            adam_beta2=0.98,
            seed=seed,
        )
        made = trainer(model, args, **options)
        model.settle()
        made.train()


def quiet_arguments(folder: str, **settings: Any) -> TrainingArguments:
    """Arguments of a training that writes and shows nothing of itself; `settings` are those of transformers."""
    return TrainingArguments(
        output_dir=folder,
        logging_steps=settings["max_steps"] + 1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        **settings,
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Many trainings in a row need no loading reports."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        transformers_logging.enable_progress_bar()
