"""The part of the trainer that writes and reads checkpoints: whole or not at all."""

import shutil
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerControl
from transformers.trainer_utils import rotate_checkpoints

from trueup.data.templates import TextFormat
from trueup.files import move_into_place, output_errors
from trueup.models.branch_model import BranchModel
from trueup.train.weights import load_weights


class SavingTrainer(Trainer):
    """transformers' loop with checkpoints of ours.

    Attributes:
        tokenizer: Saved with every checkpoint.
        form: How text became tokens; saved with every checkpoint.
        provenance: Plain values saved with every checkpoint.
        control: What callbacks asked of the loop.
    """

    tokenizer: PreTrainedTokenizerBase
    form: TextFormat
    provenance: Mapping[str, Any]
    control: TrainerControl
    _staging: Path | None = None
    _started: float | None = None
    _had_ended: bool = False

    @property
    def unwrapped(self) -> BranchModel:
        """The model without the wrapping of a distributed or compiled run."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _load_callback_state(self) -> None:
        """Take up what callbacks knew, and whether one of them had ended the run."""
        super()._load_callback_state()
        self._had_ended = self.control.should_training_stop

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """As transformers', but for a run that is to end now: transformers asks only after a step."""
        self.control.should_training_stop |= self._had_ended
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **options)

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        """Time that the speed of training does not count."""
        start = time.perf_counter()
        yield
        if self._started is not None:
            self._started += time.perf_counter() - start

    def _get_output_dir(self, trial: object = None) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: object = None) -> None:
        """Write a checkpoint aside and move it into place, so that a kill or a full disk leaves none that is half."""
        run = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        self._staging = run / ".partial"
        try:
            with output_errors(run / name), self._off_the_clock():
                if self.is_world_process_zero():
                    shutil.rmtree(self._staging, ignore_errors=True)
                self.accelerator.wait_for_everyone()
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                self.state.best_model_checkpoint = self._best_checkpoint(run)
                if self.is_world_process_zero():
                    self._finish_checkpoint(run, self._staging / name)
                self.accelerator.wait_for_everyone()
        finally:
            if self.is_world_process_zero():
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _best_checkpoint(self, run: Path) -> str | None:
        """Where the best weights are: in this checkpoint or an earlier one, if the best step was saved at all."""
        best = self.state.best_global_step
        folder = run / f"checkpoint-{best}"
        saved = best == self.state.global_step or folder.is_dir()
        earlier = self.state.best_model_checkpoint
        if best and saved:
            return str(folder)
        return earlier if earlier and Path(earlier).parent == run else None

    def _finish_checkpoint(self, run: Path, written: Path) -> None:
        self.state.save_to_json(str(written / "trainer_state.json"))
        move_into_place(written, run / written.name)
        rotate_checkpoints(
            output_dir=str(run),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=False,
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, gathered first where devices hold shards of it, whatever the sharded format of resuming."""
        if self.is_fsdp_enabled:
            self._save(output_dir, self.accelerator.get_state_dict(self.model))
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save an ordinary transformers checkpoint (safetensors; nothing pickled holds weights)."""
        if not self.args.should_save:
            return
        self._write(Path(output_dir or self.args.output_dir), state_dict)

    @abstractmethod
    def _write(self, folder: Path, state: Mapping[str, Tensor] | None) -> None:
        """Write model, tokenizer and side file into a folder; `state` holds weights gathered from several devices."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load the weights of a checkpoint that `_save` wrote."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_weights(self.unwrapped, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Go back to the best checkpoint's weights."""
        if self.is_fsdp_enabled:
            super()._load_best_model()
            return
        load_weights(self.unwrapped, Path(str(self.state.best_model_checkpoint)))
