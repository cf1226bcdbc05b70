"""The trainer of reward models: transformers' loop around our own step."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from trueup.data.branches import BranchRow
from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, NonFiniteError
from trueup.files import move_into_place, output_errors, write_text
from trueup.models.checkpoints import save_reward_model
from trueup.models.plan import Part, cut
from trueup.models.reward import Branches, RewardModel
from trueup.train.dataset import BranchDataset, as_step
from trueup.train.step import Step, Tally, observe, reduce_loss, statistics, summarize
from trueup.types import Coupled, RewardObjective

OFFENDERS = "non_finite_rows.jsonl"


class RewardTrainer(Trainer):  # type: ignore[misc]
    """Trains a `RewardModel`; each loader batch is one whole optimiser step, cut here into micro-batches.

    Args:
        model: The reward model.
        args: transformers' arguments; `per_device_train_batch_size` counts rows of a step on each device.
        terms: The loss: an objective and its regularisers.
        train_dataset: Rows to learn from.
        eval_dataset: Rows to watch, or None.
        tokenizer: Saved with every checkpoint.
        form: How text became tokens; saved with every checkpoint.
        token_budget: Token slots a micro-batch may compute.
        provenance: Plain values saved with every checkpoint.
        callbacks: Further callbacks.
    """

    def __init__(
        self,
        model: RewardModel,
        args: TrainingArguments,
        *,
        terms: Sequence[RewardObjective],
        train_dataset: BranchDataset,
        eval_dataset: BranchDataset | None = None,
        tokenizer: PreTrainedTokenizerBase,
        form: TextFormat,
        token_budget: int,
        provenance: Mapping[str, Any] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.terms, self.form, self.token_budget = tuple(terms), form, token_budget
        self.tokenizer, self.provenance = tokenizer, dict(provenance or {})
        self._tally, self._started, self._tokens = Tally(), time.perf_counter(), 0
        self._staging: Path | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=as_step,
            callbacks=list(callbacks),
        )
        self.can_return_loss = True
        self.remove_callback(PrinterCallback)  # it prints every log as a raw dictionary

    @property
    def reward_model(self) -> RewardModel:
        """The model without the wrapping of a distributed run."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]

    # The step

    def training_step(self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: object = None) -> Tensor:
        """Forward and backward over all micro-batches of one optimiser step; returns its loss on this device."""
        model.train()
        rows: list[BranchRow] = inputs["rows"]
        step, parts = self._plan(rows)
        stats = self._statistics(model, step, parts)
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(parts):
            waiting = number < len(parts) - 1
            with self.accelerator.no_sync(model) if waiting else nullcontext():
                layout, branches = self._forward(model, step, part)
                batch = step.batch(part, branches)
                sums = stats if stats is not None else self._sums(step, [(part, branches)])
                loss = reduce_loss(step, self.terms, batch, sums, tally=self._tally)
                # Gradients are averaged over devices; the step's loss is a sum over them.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            observe(self._tally, batch, layout)
            self._stop_if_not_finite(step, part, loss, branches)
            total += loss.detach()
        self._tokens += sum(row.size for row in rows)
        return total * self.accelerator.num_processes

    def _plan(self, rows: Sequence[BranchRow]) -> tuple[Step, list[Part]]:
        way = self.reward_model.sharing
        parts = cut(rows, budget=self.token_budget, sharing=way)
        device = self.args.device
        if self.accelerator.num_processes > 1:
            # Devices that shard weights take part in each other's passes, so all must make equally many.
            most = self.accelerator.gather(torch.tensor([len(parts)], device=device)).max()
            parts = cut(rows, budget=self.token_budget, sharing=way, at_least=int(most))
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return Step.count(rows, rank=rank, world=world, add=self._sum_over_devices, device=device), parts

    def _statistics(self, model: nn.Module, step: Step, parts: Sequence[Part]) -> list[Any] | None:
        """The step's sums for coupled terms, by an extra pass; None where the only pass can give them itself."""
        if len(parts) == 1 or not any(isinstance(term, Coupled) for term in self.terms):
            return None if len(parts) == 1 else [{} for _ in self.terms]
        with torch.no_grad():
            return self._sums(step, [(part, self._forward(model, step, part)[1]) for part in parts])

    def _sums(self, step: Step, passes: Sequence[tuple[Part, Branches]]) -> list[Any]:
        return list(statistics(step, self.terms, passes, add=self._sum_over_devices))

    def _forward(self, model: nn.Module, step: Step, part: Part) -> tuple[Any, Branches]:
        layout = self.reward_model.layout([step.rows[i] for i in part])
        with self.compute_loss_context_manager():
            return layout, model(layout)

    def _sum_over_devices(self, tensor: Tensor) -> Tensor:
        return self.accelerator.reduce(tensor, "sum") if self.accelerator.num_processes > 1 else tensor

    def _stop_if_not_finite(self, step: Step, part: Part, loss: Tensor, branches: Branches) -> None:
        """Save the rows behind a NaN or an infinity and stop, before the optimiser takes a step."""
        if bool(torch.isfinite(loss)):
            return
        bad_branch = ~torch.isfinite(branches.reward.detach()).cpu()
        counts = [len(step.rows[i].branch_lengths) for i in part]
        bad = [i for i, piece in zip(part, bad_branch.split(counts), strict=True) if piece.any()] or list(part)
        lines = [json.dumps(self._describe(step.rows[i].index)) for i in bad]
        path = Path(self.args.output_dir) / OFFENDERS
        write_text(path, "".join(line + "\n" for line in lines))
        raise NonFiniteError(
            f"the loss is {loss.item()} at step {self.state.global_step + 1}; {len(bad)} offending rows are in {path}; "
            "lower the learning rate, or inspect these rows"
        )

    def _describe(self, index: int) -> Mapping[str, Any]:
        return self.train_dataset.describe(index)  # type: ignore[no-any-return]

    # Evaluation

    def evaluate(
        self,
        eval_dataset: BranchDataset | None = None,
        ignore_keys: object = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss, accuracy and reward statistics over a data set, in steps of the training size."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(dataset, Mapping):
            results = [
                self.evaluate(part, metric_key_prefix=f"{metric_key_prefix}_{name}") for name, part in dataset.items()
            ]
            return {name: value for result in results for name, value in result.items()}
        metrics = self._evaluate_rows(dataset)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    @torch.no_grad()
    def _evaluate_rows(self, dataset: BranchDataset) -> dict[str, float]:
        model, tally = self.model_wrapped, Tally()
        model.eval()
        size, world, rank = (
            self.args.per_device_train_batch_size,
            self.accelerator.num_processes,
            self.args.process_index,
        )
        for start in range(0, len(dataset), size * world):
            chunk = [dataset[i] for i in range(start, min(start + size * world, len(dataset)))]
            mine = chunk[rank::world] or chunk[:1]  # a device without rows goes through the motions
            step, parts = self._plan(mine)
            passes = [(part, *self._forward(model, step, part)) for part in parts]
            sums = self._sums(step, [(part, branches) for part, _, branches in passes])
            for part, layout, branches in passes:
                batch = step.batch(part, branches)
                if rank < len(chunk):
                    reduce_loss(step, self.terms, batch, sums, tally=tally)
                    observe(tally, batch, layout)
        model.train()
        means = summarize(tally.means(self._sum_over_devices))
        return {"loss": sum(value for name, value in means.items() if name.startswith("loss/")), **means}

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last log, speed, and tokens seen."""
        if "loss" in logs:
            means = summarize(self._tally.means(self._sum_over_devices))
            tokens = float(self._sum_over_devices(torch.tensor(float(self._tokens), device=self.args.device)))
            elapsed = time.perf_counter() - self._started
            logs |= means | {"tokens_per_second": tokens / max(elapsed, 1e-9), "num_tokens": tokens}
            self._tally, self._started, self._tokens = Tally(), time.perf_counter(), 0
        super().log(logs, start_time)

    # Checkpoints

    def _get_output_dir(self, trial: object = None) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: object = None) -> None:
        """Write a checkpoint aside and move it into place, so that a kill or a full disk leaves none that is half."""
        run = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        self._staging = run / ".partial"
        try:
            with output_errors(run / name):
                if self.is_world_process_zero():
                    shutil.rmtree(self._staging, ignore_errors=True)
                self.accelerator.wait_for_everyone()
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.is_world_process_zero():
                    self._finish_checkpoint(run, self._staging / name)
                self.accelerator.wait_for_everyone()
        finally:
            if self.is_world_process_zero():
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _finish_checkpoint(self, run: Path, written: Path) -> None:
        best = self.state.best_global_step
        self.state.best_model_checkpoint = str(run / f"checkpoint-{best}") if best else None
        self.state.save_to_json(str(written / "trainer_state.json"))
        move_into_place(written, run / written.name)
        rotate_checkpoints(
            output_dir=str(run),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=False,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save an ordinary transformers checkpoint (safetensors; nothing pickled holds weights)."""
        if not self.args.should_save:
            return
        save_reward_model(
            output_dir or self.args.output_dir,
            self.reward_model,
            tokenizer=self.tokenizer,
            form=self.form,
            provenance=self.provenance,
            state=state_dict,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load the weights of a checkpoint that `_save` wrote."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_weights(self.reward_model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Go back to the best checkpoint's weights."""
        load_weights(self.reward_model, Path(str(self.state.best_model_checkpoint)))


def load_weights(model: RewardModel, folder: Path) -> None:
    """Read a checkpoint's weights into a model of the same shape.

    Raises:
        CheckpointError: Files are missing or damaged, or belong to another model.
    """
    inner = model.pretrained
    adapter = isinstance(inner, PeftModel)
    files = sorted(folder.glob("adapter_model*.safetensors" if adapter else "model*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: holds no weights; delete this checkpoint to resume from an earlier one")
    try:
        state = {name: tensor for file in files for name, tensor in load_file(file).items()}
        if adapter:
            set_peft_model_state_dict(inner, state)
        else:
            tied = set(getattr(inner, "all_tied_weights_keys", None) or ())
            missing, unexpected = inner.load_state_dict(state, strict=False)
            if set(missing) - tied or unexpected:
                raise CheckpointError(f"{folder}: weights do not fit: {sorted({*missing, *unexpected} - tied)[:4]}")
    except CheckpointError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{folder}: the weights cannot be read ({first}); delete this checkpoint to resume from an earlier one"
        ) from error
