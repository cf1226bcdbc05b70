"""Callbacks of every run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trueup.files import output_errors, write_text


class MetricsFile(TrainerCallback):
    """Appends everything that is logged to `metrics.jsonl`; a resumed run drops what its checkpoint did not know."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what the checkpoint knows of a resumed run's past, or start afresh."""
        if state.is_world_process_zero:
            write_text(self.path, "".join(_line(logs) for logs in state.log_history))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append one line."""
        if state.is_world_process_zero and logs:
            with output_errors(self.path), open(self.path, "a", encoding="utf-8") as handle:
                handle.write(_line({**logs, "step": state.global_step}))


class ProgressBar(TrainerCallback):
    """One line: steps, rate, time left, and the latest of the few numbers that say how it goes."""

    def __init__(self, description: str = "train") -> None:
        self.description = description
        self.bar: Any = None
        self._latest: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar where the run stands."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.description, unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move by one step."""
        if self.bar is not None:
            self.bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the latest numbers."""
        shown = {name: value for name, value in (logs or {}).items() if name.removeprefix("eval_") in _SHOWN}
        if self.bar is not None and shown:
            self._latest |= {name: f"{value:.3f}" for name, value in shown.items()}
            self.bar.set_postfix(self._latest)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """End the bar's line, so that what is printed next stands on its own."""
        if self.bar is not None:
            self.bar.close()


_SHOWN = frozenset({"loss", "accuracy", "rewards/accuracies", "reward", "kl", "watch/gold", "watch/kl"})


def _line(logs: Mapping[str, Any]) -> str:
    return json.dumps({"step": logs["step"], **logs}) + "\n"
