"""`trueup train preference`: from preferences to a policy."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from trueup.data.fingerprint import fingerprint
from trueup.data.rows import Row
from trueup.data.templates import TextFormat, infer_format
from trueup.errors import NonFiniteError, RecipeError
from trueup.files import cache_folder
from trueup.models.checkpoints import format_of
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.models.reading import logprobs
from trueup.models.side_files import read_side_file
from trueup.models.tokenizers import load_tokenizer
from trueup.recipes.advantage_rows import PriorityTrainer
from trueup.recipes.advantages import Weighed, weigh
from trueup.recipes.arguments import training_arguments
from trueup.recipes.config import dump
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.provenance import versions
from trueup.recipes.resume import check_same_data, checkpoint_to_resume
from trueup.recipes.runs import (
    TrainedRun,
    build_policy_model,
    callbacks_of,
    learn,
    open_run,
    report_dropped,
    settle,
    weighted_rewards,
    write_training_page,
)
from trueup.train.callbacks import ProgressBar
from trueup.train.dataset import BranchDataset
from trueup.train.devices import join_processes
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.prepare import Prepared, prepare_pairs, prepare_replies
from trueup.train.reference_cache import model_fingerprint, pass_budget
from trueup.train.references import AdapterOff, ModelReference

__all__ = ["TrainPreference", "train_preference"]


def train_preference(recipe: TrainPreference, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedRun:
    """Train a policy on preferences or rewards of responses; each prompt is computed once for all its responses.

    Raises:
        DataError: Data cannot be used; nothing was written.
        CheckpointError: A model or a checkpoint to resume from cannot be used.
        OutputError: The run directory cannot be written.
        NonFiniteError: The loss, the reference or a reward is NaN; the rows are named.
    """
    checkpoint = checkpoint_to_resume(recipe.output, resume=recipe.resume)
    read = recipe.data.single_responses if recipe.weighs else recipe.data.selections
    selections = read(seed=recipe.seed)
    tokenizer = load_tokenizer(recipe.tokenizer or recipe.model, trust_remote_code=recipe.trust_remote_code)
    set_seed(recipe.seed)
    model = build_policy_model(recipe, tokenizer)
    form = _format(recipe, model, tokenizer, selections["train"].kept)
    open_run(recipe)
    content = fingerprint(selections["train"].kept)
    if checkpoint is not None:
        check_same_data(checkpoint, fingerprint=content, source=recipe.data.train)
    plain = {name: _prepare(recipe, chosen.kept, tokenizer, form) for name, chosen in selections.items()}
    weighed = _weighed(recipe, plain, model, tokenizer=tokenizer, form=form)
    prepared = weighed.prepared
    sources = {"train": recipe.data.train, "eval": str(recipe.data.eval)}
    dropped = report_dropped(recipe.output, selections, prepared, sources=sources, max_length=recipe.data.max_length)
    data = {"train": recipe.data.train, "rows": len(selections["train"].kept), "fingerprint": content}
    provenance = _provenance(recipe, data, dropped, weighed=weighed)
    bar = ProgressBar("preference")
    known = callbacks_of(recipe, bar, callbacks)
    trainer = _trainer(recipe, model, weighed, tokenizer=tokenizer, form=form, provenance=provenance, callbacks=known)
    folder, metrics = learn(recipe, trainer, checkpoint, bar)
    if trainer.is_world_process_zero():
        write_training_page(recipe, provenance, _weights_in_words(provenance))
    told = {"kept_share": weighed.facts["kept_share"]} if weighed.facts else {}
    return TrainedRun(folder, {**metrics, **told}, dropped)


def _format(
    recipe: TrainPreference, model: PolicyModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]
) -> TextFormat:
    side = read_side_file(Path(recipe.model))
    if recipe.data.text_format == "auto" and side:
        stored = format_of(recipe.model, tokenizer, side, model.core)
        return replace(stored, max_length=recipe.data.max_length)
    return infer_format(rows, tokenizer, max_length=recipe.data.max_length, kind=recipe.data.text_format)


def _cache(recipe: TrainPreference) -> Path:
    return recipe.data.cache or cache_folder()


def _prepare(
    recipe: TrainPreference, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> Prepared:
    how, cache = recipe.data, _cache(recipe) / "tokens"
    if recipe.weighs:
        return prepare_replies(rows, tokenizer=tokenizer, form=form, too_long=how.too_long, cache=cache)
    return prepare_pairs(rows, tokenizer=tokenizer, form=form, rule=how.pairs, too_long=how.too_long, cache=cache)


def _weighed(
    recipe: TrainPreference,
    prepared: Mapping[str, Prepared],
    model: PolicyModel,
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
) -> Weighed:
    """Rows that know what their responses weigh; one process finds it, and the others read it."""
    if not recipe.weighs:
        return Weighed(prepared=prepared, priorities=None, facts={})
    join_processes(batch_size=recipe.batch_size)  # the others wait while the first scores and asks the reference
    arguments = training_arguments(recipe, rows=1)  # says where models compute, and which process is the first
    with arguments.main_process_first(local=False, desc="rewards and values"):
        return weigh(
            recipe,
            prepared,
            tokenizer=tokenizer,
            form=form,
            reference=partial(_reference, recipe, model, tokenizer, device=arguments.device),
            kept=recipe.resume or arguments.process_index > 0,
        )


@contextmanager
def _reference(
    recipe: TrainPreference, model: PolicyModel, tokenizer: PreTrainedTokenizerBase, *, device: torch.device
) -> Iterator[PolicyModel]:
    """The reference: a model of its own, or the policy before its first step, without its adapter."""
    held = model if recipe.reference is None else _load_reference(recipe, tokenizer)
    held.to(device).eval()
    held.settle()
    own = held.pretrained if recipe.lora and held is model else None
    with own.disable_adapter() if isinstance(own, PeftModel) else nullcontext():
        yield held


def _trainer(
    recipe: TrainPreference,
    model: PolicyModel,
    weighed: Weighed,
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    provenance: Mapping[str, Any],
    callbacks: Sequence[TrainerCallback],
) -> PreferenceTrainer:
    """The trainer, whose rows know everything that the loss needs of them."""
    known = {name: _rewarded(recipe, one.dataset) for name, one in weighed.prepared.items()}
    priorities = weighed.priorities
    rows = len(known["train"]) if priorities is None else sum(one > 0 for one in priorities)
    trainer = PriorityTrainer(
        model,
        training_arguments(recipe, rows=rows),
        priorities=priorities,
        terms=recipe.terms,
        train_dataset=known["train"],
        eval_dataset=known.get("eval"),
        tokenizer=tokenizer,
        form=form,
        token_budget=recipe.token_budget,
        provenance=provenance,
        callbacks=callbacks,
    )
    settle(trainer)
    _compare(recipe, trainer, model, tokenizer)
    return trainer


def _compare(
    recipe: TrainPreference, trainer: PreferenceTrainer, model: PolicyModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Look up, or compute once, what other models say; the start is the policy itself, before its first step."""
    folder, budget = _cache(recipe) / "logprobs", pass_budget(recipe.token_budget, model.device)
    at_start = [name for name in ("reference", "previous") if name in recipe.needs]
    if recipe.reference is not None and "reference" in at_start:
        at_start.remove("reference")
        held = _load_reference(recipe, tokenizer).to(model.device)
        held.settle()
        known = model_fingerprint(held, adapter=True)
        reference = ModelReference(held, token_budget=budget)
        trainer.hold_against(reference.logprobs, model=known, names=["reference"], folder=folder)
    if at_start:
        model.eval()
        start = AdapterOff(model, token_budget=budget).logprobs if recipe.lora else None
        compute = start or partial(logprobs, model, token_budget=budget)
        known = model_fingerprint(model, adapter=False)
        trainer.hold_against(compute, model=known, names=at_start, folder=folder)


def _load_reference(recipe: TrainPreference, tokenizer: PreTrainedTokenizerBase) -> PolicyModel:
    found = load_policy_checkpoint(
        str(recipe.reference), dtype=torch.float32, trust_remote_code=recipe.trust_remote_code
    )
    if found.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise RecipeError(
            f"{recipe.reference}: has another vocabulary than {recipe.tokenizer or recipe.model}, so that its "
            "log-probabilities would be of other text; name a reference with the policy's tokenizer"
        )
    return found.model


def _rewarded(recipe: TrainPreference, dataset: BranchDataset) -> BranchDataset:
    """The rows with the weighted rewards of other objectives, where the loss needs them beside preferences."""
    if recipe.weighs or not recipe.rewards:
        return dataset
    rows = [dataset.text(i) for i in range(len(dataset))]
    texts = [[one.text for one in row.responses] for row in rows]

    def score() -> np.ndarray:
        reward = weighted_rewards(recipe, recipe.rewards, recipe.weights)
        return reward.score([row.prompt for row in rows], texts).reward

    found = torch.from_numpy(join_processes(batch_size=recipe.batch_size).finds(score)).float()
    groups = torch.split(found, [len(group) for group in texts])
    wrong = next((i for i, group in enumerate(groups) if not bool(group.isfinite().all())), None)
    if wrong is not None:
        raise NonFiniteError(f"{rows[wrong].origin}: a reward of its responses is not finite; mend the reward")
    return dataset.with_known(branches_of={"reward": groups})


def _provenance(
    recipe: TrainPreference, data: Mapping[str, Any], dropped: Mapping[str, int], *, weighed: Weighed
) -> dict[str, Any]:
    known = {
        "recipe": yaml.safe_load(dump(recipe)),
        "data": dict(data),
        "dropped": dict(dropped),
        "versions": versions(),
        "seed": recipe.seed,
    }
    return known | ({"advantages": dict(weighed.facts)} if weighed.facts else {})


def _weights_in_words(provenance: Mapping[str, Any]) -> dict[str, str]:
    known = provenance.get("advantages")
    if known is None:
        return {}
    share = f"{known['positive']} of {known['responses']} ({known['kept_share']:.1%})"
    means = f", mean reward {known['mean_reward']:.4g}"
    means += f", mean value {known['mean_value']:.4g}" if "mean_value" in known else ""
    return {"responses of positive weight": share + means}
