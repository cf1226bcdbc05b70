"""The online trainer: a policy learns from what it drew itself."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from trueup.data.branches import BranchRow
from trueup.data.rows import Prompt, prompt_text
from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, OutputError, RecipeError, TrueupError
from trueup.models.generation import Sampling
from trueup.models.heads.value import load_value_head, save_value_head, with_value_head
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.models.reading import values
from trueup.policies.engine import RolloutEngine
from trueup.policies.model import ModelPolicy
from trueup.rewards.base import Reward
from trueup.rewards.shaping import Shaping
from trueup.train.anchor_callback import AnchorCallback
from trueup.train.collecting import Collected, Collector
from trueup.train.online_metrics import observe, warnings_of
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.prompt_order import Rhythm, minibatch, prompts_of
from trueup.train.references import Reference, is_compared
from trueup.train.rollouts import RolloutRow, load_rows, save_rows
from trueup.types import OnlineObjective

logger = logging.getLogger(__name__)

ROLLOUTS = "rollouts.safetensors"


class _Steps(Dataset[int]):
    """The numbers of a run's optimiser steps; what a step learns from is drawn when it begins."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, number: int) -> int:
        return number


class OnlineTrainer(PolicyTrainer):
    """Draws replies, scores them, and learns from them, in turns.

    Args:
        model: The policy, which both draws and learns.
        args: transformers' arguments; `max_steps` counts optimiser steps.
        prompts: What it is asked.
        reward: What is optimised.
        terms: The loss: a method and its regularisers.
        rhythm: How drawing and learning alternate.
        sampling: How replies are drawn.
        tokenizer: The policy's tokenizer.
        form: How text becomes tokens.
        token_budget: Token slots of one pass.
        shaping: What becomes of rewards before they are learned from.
        reference: What the policy is held against; needed by a KL coefficient and by some terms.
        kl_coefficient: Weight, within the reward, of the KL to the reference, per nat.
        value_learning_rate: Learning rate of the value head; the policy's where it is None.
        engine: What draws rollouts in the policy's place; who made it closes it.
        provenance: Plain values saved with every checkpoint.
        callbacks: Further callbacks.
    """

    def __init__(
        self,
        model: PolicyModel,
        args: TrainingArguments,
        *,
        prompts: Sequence[Prompt],
        reward: Reward,
        terms: Sequence[OnlineObjective],
        rhythm: Rhythm,
        sampling: Sampling,
        tokenizer: PreTrainedTokenizerBase,
        form: TextFormat,
        token_budget: int,
        shaping: Shaping | None = None,
        reference: Reference | None = None,
        kl_coefficient: float = 0.0,
        value_learning_rate: float | None = None,
        engine: RolloutEngine | None = None,
        provenance: Mapping[str, Any] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        if args.max_steps <= 0:
            raise RecipeError(f"max_steps must be positive, got {args.max_steps}; an online run has no epochs")
        needs = {need for term in terms for need in term.needs}
        if reference is None and is_compared(terms, kl_coefficient=kl_coefficient):
            raise RecipeError("a KL coefficient or a term of the loss needs a reference")
        self.prompts, self.reward, self.rhythm = list(prompts), reward, rhythm
        self.needs, self.value_learning_rate = needs, value_learning_rate
        if "value" in needs:
            with_value_head(model)
        self._rows: list[RolloutRow] = []
        super().__init__(
            model,
            args,
            terms=terms,
            train_dataset=_Steps(args.max_steps),  # type: ignore[arg-type]
            tokenizer=tokenizer,
            form=form,
            token_budget=token_budget,
            provenance=provenance,
            callbacks=callbacks,
        )
        known = PolicyCheckpoint(model, tokenizer, form)
        self.collector = Collector(
            policy=ModelPolicy(checkpoint=known, name="policy", sampling=sampling),
            prompts=self.prompts,
            reward=reward,
            shaping=shaping or Shaping(),
            samples=rhythm.samples,
            terms=terms,
            kl_coefficient=kl_coefficient,
            reference=reference,
            old_values=self._values_now if "value" in needs else None,
            token_budget=token_budget,
            engine=engine,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            computing=self.compute_loss_context_manager,
        )

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: object = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """Train; what has been learned is saved before a failure of reward, gold or loss ends the run."""
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except (CheckpointError, OutputError):
            raise  # nothing was learned, or it cannot be saved
        except TrueupError:
            self._stop_whole()
            raise

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """The usual one; a value head may have a learning rate of its own."""
        made = self.optimizer is None
        optimizer: Optimizer = super().create_optimizer(model)
        head = cast(PolicyModel, self.unwrapped).value_head
        if made and head is not None and self.value_learning_rate is not None:
            own = {id(parameter) for parameter in head.parameters()}
            for group in optimizer.param_groups:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
            settings = {"lr": self.value_learning_rate, "weight_decay": 0.0}
            optimizer.add_param_group({"params": list(head.parameters()), **settings})
        return optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps' numbers, the same on every device."""
        return DataLoader(_Steps(self.args.max_steps), batch_size=1, collate_fn=lambda numbers: {"step": numbers[0]})

    def training_step(self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: object = None) -> Tensor:
        """Draw, where a new rollout is due, and take the step that it is the turn of."""
        rows = self._rows_of_step(model)
        start = time.perf_counter()
        loss = super().training_step(model, {"rows": rows})
        self._tally.add("seconds/train", torch.tensor([time.perf_counter() - start]))
        return loss

    def _rows_of_step(self, model: nn.Module) -> list[RolloutRow]:
        step = int(self.state.global_step)
        if step % self.rhythm.steps == 0 or not self._rows:
            self._collect(model, step // self.rhythm.steps)
        chosen = minibatch(range(len(self._rows)), step=step, rhythm=self.rhythm, seed=self.args.seed)
        return [self._rows[i] for i in chosen]

    def _collect(self, model: nn.Module, rollout: int) -> None:
        numbers = prompts_of(rollout, total=len(self.prompts), rhythm=self.rhythm, seed=self.args.seed)
        self.collector.policy.checkpoint.model.eval()
        # A seed of its own for each rollout, or a prompt that comes again would get the same replies again.
        found = self.collector.collect(numbers, seed=self.args.seed * 1_000_003 + rollout)
        self._rows = found.rows
        self._report(found)

    def _stop_whole(self) -> None:
        """Save what has been learned, where it is not saved already."""
        step = int(self.state.global_step)
        if step and not (Path(self.args.output_dir) / f"checkpoint-{step}").is_dir():
            self._save_checkpoint(self.model_wrapped)
        if step:
            logger.warning("everything up to step %d is saved; the run can be resumed from there", step)

    def _report(self, found: Collected) -> None:
        observe(self._tally, found, samples=self.rhythm.samples)
        for words in warnings_of(found, samples=self.rhythm.samples, max_new_tokens=self._longest):
            logger.warning("step %d: %s", self.state.global_step + 1, words)

    @property
    def _longest(self) -> int:
        return self.collector.policy.sampling.max_new_tokens

    def _values_now(self, rows: Sequence[RolloutRow]) -> list[Tensor]:
        return values(self.collector.policy.checkpoint.model, rows, token_budget=self.token_budget)

    def _wanted(self, rows: Sequence[BranchRow]) -> dict[str, Any]:
        held = self.collector.reference
        compared = held.states(rows) if held is not None and "forward_kl" in self.needs else None
        return {"entropy": "entropy" in self.needs, "value": "value" in self.needs, "reference": compared}

    # Checkpoints

    def _write(self, folder: Path, state: Mapping[str, Tensor] | None) -> None:
        super()._write(folder, state)
        save_value_head(folder, self.collector.policy.checkpoint.model, state=state)
        if self._staging is None:
            return  # the finished model, from which nothing goes on
        if self._rows and self.state.global_step % self.rhythm.steps:
            save_rows(self._rows, folder / ROLLOUTS)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, AnchorCallback):
                callback.save_within(folder, step=self.state.global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if "value" in self.needs:
            load_value_head(resume_from_checkpoint, self.collector.policy.checkpoint.model)
        path = Path(resume_from_checkpoint) / ROLLOUTS
        self._rows = load_rows(path) if path.is_file() else []

    def _describe(self, index: int) -> Mapping[str, Any]:
        row = next((row for row in self._rows if row.index == index), None)
        asked = {"prompt": prompt_text(self.prompts[index]), "prompt number": index}
        if row is None:
            return asked
        replies = [ids[row.prompt_length :] for ids in row.sequences()]
        return {**asked, "responses": self.tokenizer.batch_decode([ids.tolist() for ids in replies])}
