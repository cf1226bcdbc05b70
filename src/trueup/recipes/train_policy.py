"""`trueup train policy`: from prompts and a reward to an optimised policy."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed

from trueup.data.demonstrations import PromptFile, read_prompts
from trueup.data.rows import Prompt
from trueup.models.checkpoints import format_of
from trueup.models.heads.value import without_value_head
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import PolicyCheckpoint, new_policy
from trueup.models.side_files import read_side_file
from trueup.models.tokenizers import load_tokenizer
from trueup.recipes.arguments import training_arguments
from trueup.recipes.config import dump
from trueup.recipes.policy_prompts import list_long, usable_prompts, watched_prompts
from trueup.recipes.policy_rollouts import rollout_engine
from trueup.recipes.policy_settings import TrainPolicy
from trueup.recipes.provenance import versions
from trueup.recipes.resume import check_same_data, checkpoint_to_resume
from trueup.recipes.runs import build_policy_model, finish, open_run, run, weighted_rewards, write_training_page
from trueup.recipes.watching import watch_gold
from trueup.rewards.base import Reward
from trueup.rewards.load import load_reward
from trueup.train.anchor_callback import AnchorCallback
from trueup.train.callbacks import MetricsFile, ProgressBar
from trueup.train.online_trainer import OnlineTrainer
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import AdapterOff, ModelReference, Reference
from trueup.train.watching import WatchSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedPolicy:
    """What a run leaves behind.

    Args:
        model: Folder of the finished policy.
        metrics: The last line of the log.
        dropped: How many prompts were too long.
        stopped: Why the run ended before its last step; None where it did not.
    """

    model: Path
    metrics: Mapping[str, float]
    dropped: int
    stopped: str | None = None

    def summary(self) -> str:
        """The end of the run, in a few lines."""
        shown = ("reward", "kl", "completions/mean_length")
        words = ", ".join(f"{name} {self.metrics[name]:.3g}" for name in shown if name in self.metrics)
        lines = [f"policy: {self.model}", f"  last steps: {words}"]
        return "\n".join(lines + ([f"  stopped early: {self.stopped}"] if self.stopped else []))


def train_policy(recipe: TrainPolicy, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedPolicy:
    """Optimise a policy as the recipe says.

    Raises:
        DataError: Prompts cannot be used; nothing was written.
        CheckpointError: A model or a checkpoint to resume from cannot be used.
        OutputError: The run directory cannot be written.
        EndpointError: A reward's server failed for good; everything learned until then is saved.
        NonFiniteError: A reward or the loss became NaN; everything learned until then is saved.
    """
    checkpoint = checkpoint_to_resume(recipe.output, resume=recipe.resume)
    file = read_prompts(recipe.data.train, split=recipe.data.split, limit=recipe.data.limit)
    tokenizer = load_tokenizer(recipe.tokenizer or recipe.model, trust_remote_code=recipe.trust_remote_code)
    set_seed(recipe.seed)
    model = build_policy_model(recipe, tokenizer)
    form = format_of(recipe.model, tokenizer, read_side_file(Path(recipe.model)), model.core)
    prompts = usable_prompts(recipe, file, tokenizer, form)
    watched = watched_prompts(recipe, prompts, tokenizer, form)
    reward, gold = load_rewards(recipe), _gold_of(recipe)
    open_run(recipe)
    long = list_long(recipe, file, prompts)
    if checkpoint is not None:
        check_same_data(checkpoint, fingerprint=file.fingerprint, source=recipe.data.train)
    bar = ProgressBar("policy")
    reference = _reference_of(recipe, model, tokenizer)
    engine = rollout_engine(recipe, PolicyCheckpoint(model, tokenizer, form), resumed=checkpoint is not None)
    trainer = OnlineTrainer(
        model,
        _arguments(recipe, len(prompts)),
        prompts=prompts,
        reward=reward,
        terms=recipe.terms,
        rhythm=recipe.rhythm,
        sampling=recipe.sampling,
        tokenizer=tokenizer,
        form=form,
        token_budget=recipe.token_budget,
        shaping=recipe.shaping,
        reference=reference,
        kl_coefficient=recipe.kl_coefficient,
        value_learning_rate=recipe.value_learning_rate,
        engine=engine,
        provenance=_provenance(recipe, file, prompts),
        callbacks=[MetricsFile(recipe.output / "metrics.jsonl"), bar, *_anchor_of(recipe, reference), *callbacks],
    )
    model.settle()  # the trainer has moved the weights to their device
    if isinstance(reference, ModelReference):
        reference.model.to(model.device).settle()
    logger.info(model.describe_sharing())
    if recipe.watch is not None:
        _watch(recipe, trainer, prompts=watched, gold=gold, start=_start_of(recipe, model, tokenizer))
    with closing(engine) if engine is not None else nullcontext():
        run(trainer, checkpoint, bar)
    folder = finish(recipe, trainer)
    if trainer.is_world_process_zero():
        write_training_page(recipe, _provenance(recipe, file, prompts), unit="prompts")
    lines = [line for line in trainer.state.log_history if "reward" in line]
    return TrainedPolicy(folder, lines[-1] if lines else {}, long, _reason(recipe.output))


def load_rewards(recipe: TrainPolicy) -> Reward:
    """What a recipe optimises."""
    several = recipe.reward_weights or ([1.0] * len(recipe.rewards) if len(recipe.rewards) > 1 else [])
    return weighted_rewards(recipe, recipe.rewards, several)


def _gold_of(recipe: TrainPolicy) -> Reward | None:
    if recipe.watch is None or recipe.watch.gold is None:
        return None
    return load_reward(recipe.watch.gold, token_budget=recipe.token_budget, trust_remote_code=recipe.trust_remote_code)


def _reference_of(recipe: TrainPolicy, model: PolicyModel, tokenizer: PreTrainedTokenizerBase) -> Reference | None:
    if not recipe.needs_reference:
        return None
    if recipe.lora is not None and recipe.reference is None and recipe.anchor is None:
        return AdapterOff(model, token_budget=recipe.token_budget)
    lora = recipe.lora.build() if recipe.lora is not None and recipe.anchor is not None else None
    if recipe.reference is None:
        held = _another(recipe, model, tokenizer, lora=lora)
    else:
        held = new_policy(recipe.reference, tokenizer=tokenizer, lora=lora, trust_remote_code=recipe.trust_remote_code)
    return ModelReference(held, token_budget=recipe.token_budget)


def _another(
    recipe: TrainPolicy, model: PolicyModel, tokenizer: PreTrainedTokenizerBase, *, lora: LoraConfig | None = None
) -> PolicyModel:
    """The policy at the start once more."""
    held = new_policy(
        recipe.model,
        tokenizer=tokenizer,
        from_scratch=recipe.from_scratch,
        lora=lora,
        trust_remote_code=recipe.trust_remote_code,
    )
    if recipe.from_scratch:
        held.load_state_dict(without_value_head(model.state_dict()))
    return held


def _start_of(recipe: TrainPolicy, model: PolicyModel, tokenizer: PreTrainedTokenizerBase) -> Reference:
    """What the watched KL is measured against: the policy at the start, whatever becomes of the reference."""
    if recipe.lora is not None:
        return AdapterOff(model, token_budget=recipe.token_budget)
    held = _another(recipe, model, tokenizer).to(model.device)
    held.settle()
    return ModelReference(held, token_budget=recipe.token_budget)


def _watch(
    recipe: TrainPolicy, trainer: OnlineTrainer, *, prompts: Sequence[Prompt], gold: Reward | None, start: Reference
) -> None:
    """Let gold be watched."""
    watch = recipe.watch
    assert watch is not None
    watch_gold(
        trainer,
        PolicySampler(policy=trainer.collector.policy, start=start).sample,
        prompts,
        proxy=trainer.reward,
        gold=gold,
        folder=recipe.output,
        settings=WatchSettings(every=watch.every, samples=watch.samples, seed=recipe.seed),
        rules=watch.rules,
    )


def _reason(output: Path) -> str | None:
    """Why a watched run was stopped."""
    path = output / "stopped.json"
    return json.loads(path.read_text(encoding="utf-8"))["reason"] if path.is_file() else None


def _anchor_of(recipe: TrainPolicy, reference: Reference | None) -> list[TrainerCallback]:
    if recipe.anchor is None:
        return []
    held = reference.model.pretrained if isinstance(reference, ModelReference) else None
    return [AnchorCallback(recipe.anchor, reference=held)]


def _arguments(recipe: TrainPolicy, prompts: int) -> TrainingArguments:
    """The trainer's, which knows steps alone: an epoch is one pass over the prompts."""
    rhythm = recipe.rhythm
    rollouts = prompts // rhythm.prompts
    steps = max(round(recipe.epochs * rollouts), 1) * rhythm.steps
    saved = replace(recipe, save_steps=recipe.save_steps or rollouts * rhythm.steps)
    return training_arguments(saved, rows=prompts, steps=steps)


def _provenance(recipe: TrainPolicy, file: PromptFile, prompts: Sequence[Prompt]) -> dict[str, Any]:
    return {
        "recipe": yaml.safe_load(dump(recipe)),
        "data": {"train": recipe.data.train, "rows": len(prompts), "fingerprint": file.fingerprint},
        "versions": versions(),
        "seed": recipe.seed,
    }
