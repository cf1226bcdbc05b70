"""What both sides of a training benchmark are given: the same arguments, and a clock of whole steps."""

import time
from pathlib import Path
from typing import Any

MAX_LENGTH = 1024


def arguments(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments of transformers' trainer, of which both sides' classes are made."""
    return {
        "output_dir": str(folder / f"run-{request['side']}"),
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": request.get("bf16", False),
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
        "seed": 0,
    }


class Clock:
    """Seconds and processor seconds of whole optimiser steps, and their losses."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        clock = self
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.losses: list[float] = []
        self._since: tuple[float, float] | None = None

        class Callback(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock._since = clock._since or now()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                ended, (wall, processor) = now(), clock._since or now()
                clock.seconds.append(ended[0] - wall)
                clock.processor.append(ended[1] - processor)
                clock._since = ended  # the next step's clock includes its loading

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if "loss" in logs and "train_runtime" not in logs:
                    clock.losses.append(float(logs["loss"]))

        self.callback = Callback()


def now() -> tuple[float, float]:
    """Seconds of the clock and of this process's processor time."""
    return time.perf_counter(), time.process_time()


def sequences(table: Any, i: int) -> list[Any]:
    """Token ids of each response of a row with its prompt."""
    import numpy as np

    from trueup.data.branches import BranchRow

    return BranchRow(
        tokens=table.ids(i),
        prompt_length=int(table.prompt_length[i]),
        branch_lengths=table.lengths(i),
        pairs=np.zeros((0, 2), int),
        rank=np.zeros(0, int),
    ).sequences()
