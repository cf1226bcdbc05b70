"""The loop of every trainer: transformers' own, around our step."""

import json
import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments

from trueup.data.branches import BranchRow
from trueup.data.templates import TextFormat
from trueup.errors import NonFiniteError
from trueup.files import write_text
from trueup.models.branch_model import BranchModel
from trueup.models.branching import Layout
from trueup.models.plan import Part, share_out
from trueup.train.dataset import BranchDataset, as_step
from trueup.train.devices import prepare_for_devices
from trueup.train.loader import LengthGrouped, check_arguments, step_loader
from trueup.train.saving import SavingTrainer
from trueup.train.step import Devices, Objective, Step, Tally, reduce_loss, statistics, summarize
from trueup.types import Coupled

# Measured on two x86 cores: 2048 slots a pass take 10% less time than 16384 (widths of 128 to 512).
_CACHE_SLOTS = 2048

OFFENDERS = "non_finite_rows.jsonl"

Out = TypeVar("Out")
"""What a model's forward pass returns."""


class BranchTrainer(SavingTrainer, Generic[Out]):
    """Each loader batch is one whole optimiser step, cut here into micro-batches.

    Args:
        model: The model.
        args: transformers' arguments; a step has `per_device_train_batch_size` rows for each device.
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
        model: BranchModel,
        args: TrainingArguments,
        *,
        terms: Sequence[Objective],
        train_dataset: BranchDataset,
        eval_dataset: BranchDataset | None = None,
        tokenizer: PreTrainedTokenizerBase,
        form: TextFormat,
        token_budget: int,
        provenance: Mapping[str, Any] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        check_arguments(args)
        self.terms, self.form, self.token_budget = tuple(terms), form, token_budget
        self.tokenizer, self.provenance = tokenizer, dict(provenance or {})
        self._tally, self._tokens = Tally(), 0
        self._started: float | None = None
        self._step: Step | None = None
        prepare_for_devices(model, args)
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
    def devices(self) -> Devices:
        """The devices that share a step."""
        return Devices(
            rank=self.accelerator.process_index, world=self.accelerator.num_processes, add=self._sum_over_devices
        )

    @property
    def step_rows(self) -> int:
        """Rows of one optimiser step, over all devices."""
        return int(self.args.per_device_train_batch_size) * self.accelerator.num_processes

    def get_train_dataloader(self) -> DataLoader[BranchRow]:
        """Whole steps, the same on every device."""
        return step_loader(
            self.train_dataset, step_rows=self.step_rows, sampler=self._get_train_sampler(), args=self.args
        )

    def _get_train_sampler(self, train_dataset: BranchDataset | None = None) -> Sampler[int]:
        rows = train_dataset if train_dataset is not None else self.train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(rows)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGrouped([rows[i].size for i in range(len(rows))], step_rows=self.step_rows, seed=seed)

    # The step

    def training_step(self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: object = None) -> Tensor:
        """Forward and backward over all micro-batches of one optimiser step; returns its loss on this device."""
        if self._started is None:
            self._started = time.perf_counter()
        model.train()
        step, parts = self._plan(inputs["rows"])
        self._step = step
        stats = self._statistics(model, step, parts)
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        for number, part in enumerate(parts):
            waiting = number < len(parts) - 1
            with self.accelerator.no_sync(model) if waiting else nullcontext():
                layout, out = self._forward(model, step, part)
                batch = self._batch(step, part, out)
                sums = stats if stats is not None else self._sums(step, [batch])
                loss = self._reduce(step, batch, sums, tally=self._tally)
                # Gradients are averaged over devices; the step's loss is a sum over them.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            self._observe(self._tally, batch)
            _observe_padding(self._tally, layout, empty=not part)
            self._stop_if_not_finite(step, [(part, out)], loss)
            total += loss.detach()
        self._tokens += sum(row.size for row in step.rows)
        self.state.num_input_tokens_seen += sum(
            len(row.branch_lengths) * row.prompt_length + sum(row.branch_lengths) for row in step.rows
        )
        return total * self.accelerator.num_processes

    def _plan(self, rows: Sequence[BranchRow]) -> tuple[Step, list[Part]]:
        """The whole step's counts and this device's parts; every device knows all rows, so nothing is exchanged."""
        devices, way, copies = self.devices, self.unwrapped.sharing, self.unwrapped.copies
        budget = max(self.token_budget // copies, 1)
        coupled = any(isinstance(term, Coupled) for term in self.terms)
        if self.args.device.type == "cpu" and (not coupled or copies > 1):
            # Activations that fit the cache are computed faster; coupled losses pay with an extra pass, which only
            # the far larger activations of several copies are worth.
            budget = min(budget, _CACHE_SLOTS)
        parts = share_out(rows, devices=devices.world, budget=budget, sharing=way)
        return Step.count(rows), parts[devices.rank]

    def _statistics(self, model: nn.Module, step: Step, parts: Sequence[Part]) -> list[Any] | None:
        """The step's sums for coupled terms, by an extra pass; None where the only pass can give them itself."""
        if len(parts) == 1 or not any(isinstance(term, Coupled) for term in self.terms):
            return None if len(parts) == 1 else self._sums(step, [])
        device = self.args.device
        # An adapter's dropout must draw the same in both passes, or the sums would be those of another model.
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            passes = [(part, self._forward(model, step, part)[1]) for part in parts]
            # Here, since a coupled loss would be NaN in every part, whichever row is to blame.
            self._stop_if_not_finite(step, passes, torch.cat([self._values(out)[0] for _, out in passes]).sum())
            return self._sums(step, [self._batch(step, part, out) for part, out in passes])

    def _sums(self, step: Step, batches: Sequence[Any]) -> list[Any]:
        return list(statistics(self.terms, batches, add=self._sum_over_devices))

    def _reduce(self, step: Step, batch: Any, sums: Sequence[Any], *, tally: Tally) -> Tensor:
        return reduce_loss(step, self.terms, batch, sums, tally=tally)

    def _forward(self, model: nn.Module, step: Step, part: Part) -> tuple[Layout, Out]:
        # An empty part runs the shortest row, for the sake of the devices that wait for this one, and forgets it.
        rows = [step.rows[i] for i in part] or [min(step.rows, key=lambda row: row.size)]
        layout = self.unwrapped.layout(rows)
        with self.compute_loss_context_manager():
            out = model(layout, **self._wanted(rows))
        return layout, out if part else self._nothing(out)

    def _wanted(self, rows: Sequence[BranchRow]) -> dict[str, Any]:
        """What a pass over some rows computes beyond the usual, as arguments of the model."""
        return {}

    @abstractmethod
    def _batch(self, step: Step, part: Part, out: Out) -> Any:
        """What objectives see of one micro-batch; an empty part gives a batch without units."""

    @abstractmethod
    def _nothing(self, out: Out) -> Out:
        """The output without any of its units, still part of the graph."""

    @abstractmethod
    def _values(self, out: Out) -> tuple[Tensor, Tensor]:
        """Values that must be finite, and the number of each one's branch within the micro-batch."""

    @abstractmethod
    def _observe(self, tally: Tally, batch: Any) -> None:
        """Record what is logged of every micro-batch."""

    def _sum_over_devices(self, tensor: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return tensor
        return self.accelerator.reduce(tensor.to(self.args.device), "sum")

    def _stop_if_not_finite(self, step: Step, passes: Sequence[tuple[Part, Out]], loss: Tensor) -> None:
        """Save the rows behind a NaN or an infinity and stop, before the optimiser takes a step."""
        if bool(torch.isfinite(loss)):
            return
        bad: list[int] = []
        for part, out in passes:
            row_of = [i for i in part for _ in step.rows[i].branch_lengths]
            values, branch = self._values(out)
            wrong = branch[~torch.isfinite(values.detach())].tolist()
            bad += dict.fromkeys(row_of[number] for number in wrong)
        self._stop(step, bad or [i for part, _ in passes for i in part], f"the loss is {loss.item()}")

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Stop, too, where a finite loss has a gradient that is not: backward passes can overflow on their own."""
        norm = super()._get_grad_norm(model, grad_norm)
        if self._step is not None and not math.isfinite(norm):
            self._stop(self._step, range(len(self._step.rows)), f"the loss is finite but its gradient is {float(norm)}")
        return norm

    def _stop(self, step: Step, rows: Sequence[int], found: str) -> NoReturn:
        lines = [json.dumps(self._describe(step.rows[i].index)) for i in rows]
        path = Path(self.args.output_dir) / OFFENDERS
        write_text(path, "".join(line + "\n" for line in lines))
        raise NonFiniteError(
            f"{found} at step {self.state.global_step + 1}; {len(rows)} offending rows are in {path}; "
            "lower the learning rate, or inspect these rows"
        )

    def _describe(self, index: int) -> Mapping[str, Any]:
        return self.train_dataset.describe(index)

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
        with self._off_the_clock():
            metrics = self._evaluate_rows(dataset)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    @torch.no_grad()
    def _evaluate_rows(self, dataset: BranchDataset) -> dict[str, float]:
        model, tally = self.model_wrapped, Tally()
        training = model.training
        model.eval()
        for start in range(0, len(dataset), self.step_rows):
            rows = [dataset[i] for i in range(start, min(start + self.step_rows, len(dataset)))]
            step, parts = self._plan(rows)
            passes = [(part, *self._forward(model, step, part)) for part in parts]
            batches = [self._batch(step, part, out) for part, _, out in passes]
            sums = self._sums(step, batches)
            for (part, layout, _), batch in zip(passes, batches, strict=True):
                self._reduce(step, batch, sums, tally=tally)
                self._observe(tally, batch)
                _observe_padding(tally, layout, empty=not part)
        model.train(training)
        means = summarize(tally.means(self.devices))
        return {"loss": sum(value for name, value in means.items() if name.startswith("loss/")), **means}

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last log, speed, and tokens seen."""
        if "loss" in logs:
            elapsed = time.perf_counter() - (self._started or 0.0)
            logs |= summarize(self._tally.means(self.devices))
            logs["tokens_per_second"] = self._tokens / max(elapsed, 1e-9)
            logs["num_tokens"] = self.state.num_input_tokens_seen
            self._tally, self._started, self._tokens = Tally(), time.perf_counter(), 0
        super().log(logs, start_time)


def _observe_padding(tally: Tally, layout: Layout, *, empty: bool) -> None:
    # A device that only keeps the others company computes nothing but padding.
    wasted = torch.ones_like(layout.real) if empty else ~layout.real
    tally.add("padding_share", wasted.double())
