"""`trueup train sft`: from demonstrations to a policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from trueup.data.demonstrations import Which
from trueup.data.fingerprint import fingerprint
from trueup.data.rows import Row
from trueup.data.selection import Selection
from trueup.data.templates import TextFormat, infer_format
from trueup.errors import RecipeError
from trueup.files import cache_folder
from trueup.models.tokenizers import load_tokenizer
from trueup.objectives import SUPERVISED_OBJECTIVES
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.recipes.arguments import training_arguments
from trueup.recipes.config import choice, dump
from trueup.recipes.data_source import DataSource
from trueup.recipes.provenance import versions
from trueup.recipes.resume import check_same_data, checkpoint_to_resume
from trueup.recipes.run_settings import TrainingRun
from trueup.recipes.runs import (
    TrainedRun,
    build_policy_model,
    callbacks_of,
    learn,
    open_run,
    report_dropped,
    settle,
    write_training_page,
)
from trueup.train.callbacks import ProgressBar
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.prepare import Prepared, prepare_replies


@dataclass(frozen=True, kw_only=True)
class Demonstrations(DataSource):
    """Where demonstrations come from.

    Args:
        which: Learn from all responses of a row, or from the best only.
    """

    which: Which = "all"

    def select(self, source: str, split: str | None) -> Selection:
        """Read a source and keep what can be learned from.

        Raises:
            DataError: The source cannot be read, or nothing of it is usable.
        """
        return self.select_demonstrations(self.read(source, split), which=self.which)


@dataclass(frozen=True, kw_only=True)
class TrainSft(TrainingRun):
    """Fine-tune a causal language model on demonstrations, its loss on responses only.

    Args:
        model: Directory or hub id of a causal language model.
        data: Where demonstrations come from.
        method: What a demonstration is worth: its likelihood (sft), or that after prefixes which are partly the
            policy's own (ift, ift_paper).
        seed: Seed of the order of the data, and of the weights when they are drawn.
    """

    data: Demonstrations
    method: choice(SUPERVISED_OBJECTIVES, default="sft") = field(default_factory=NegativeLogLikelihood)  # type: ignore[valid-type]
    learning_rate: float = 1e-5
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method is None:
            raise RecipeError(f"method must be one of {', '.join(SUPERVISED_OBJECTIVES)}, got none")

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch."""
        return self.data.eval is not None


def train_sft(recipe: TrainSft, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedRun:
    """Fine-tune a policy as the recipe says; rows are packed without padding, and each prompt is computed once.

    Raises:
        DataError: Data cannot be used; nothing was written.
        CheckpointError: The model or a checkpoint to resume from cannot be used.
        OutputError: The run directory cannot be written.
        NonFiniteError: The loss became NaN; the offending rows are in the run directory.
    """
    checkpoint = checkpoint_to_resume(recipe.output, resume=recipe.resume)
    data = recipe.data
    selections = {"train": data.select(data.train, data.train_split)}
    if data.eval is not None:
        selections["eval"] = data.select(data.eval, data.eval_split)
    tokenizer = load_tokenizer(recipe.tokenizer or recipe.model, trust_remote_code=recipe.trust_remote_code)
    set_seed(recipe.seed)
    model = build_policy_model(recipe, tokenizer)
    form = infer_format(selections["train"].kept, tokenizer, max_length=data.max_length, kind=data.text_format)
    open_run(recipe)
    prepared = {name: _prepare(recipe, chosen.kept, tokenizer, form) for name, chosen in selections.items()}
    sources = {"train": data.train, "eval": str(data.eval)}
    dropped = report_dropped(recipe.output, selections, prepared, sources=sources, max_length=data.max_length)
    train = prepared["train"].dataset
    provenance = _provenance(recipe, selections["train"].kept, dropped)
    if checkpoint is not None:
        check_same_data(checkpoint, fingerprint=provenance["data"]["fingerprint"], source=data.train)
    bar = ProgressBar("sft")
    trainer = PolicyTrainer(
        model,
        training_arguments(recipe, rows=len(train)),
        terms=(recipe.method,),
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
        write_training_page(recipe, provenance)
    return TrainedRun(folder, metrics, dropped)


def _prepare(recipe: TrainSft, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> Prepared:
    cache = recipe.data.cache or cache_folder() / "tokens"
    return prepare_replies(rows, tokenizer=tokenizer, form=form, too_long=recipe.data.too_long, cache=cache)


def _provenance(recipe: TrainSft, rows: Sequence[Row], dropped: Mapping[str, int]) -> dict[str, Any]:
    return {
        "recipe": yaml.safe_load(dump(recipe)),
        "data": {"train": recipe.data.train, "rows": len(rows), "fingerprint": fingerprint(rows)},
        "dropped": dict(dropped),
        "versions": versions(),
        "seed": recipe.seed,
    }
