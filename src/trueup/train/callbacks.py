"""Callbacks of every run."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trueup.files import output_errors, write_text


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Appends everything that is logged to `metrics.jsonl`; a resumed run drops what its checkpoint did not know."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the lines of a resumed run's past, or start afresh."""
        if not state.is_world_process_zero:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        kept = [line for line in lines if _step(line) <= state.global_step] if state.global_step else []
        write_text(self.path, "".join(f"{line}\n" for line in kept))

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
            line = json.dumps({"step": state.global_step, **logs})
            with output_errors(self.path), open(self.path, "a", encoding="utf-8") as handle:
                handle.write(line + "\n")


def _step(line: str) -> float:
    """Step of a line; a line that a kill cut short counts as beyond every checkpoint."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
