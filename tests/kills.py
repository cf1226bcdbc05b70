"""Callbacks that stop a training where a kill would."""

from pathlib import Path

from transformers import TrainerCallback


class Killed(TrainerCallback):
    """Stops in the middle of a step: the gradient is there, the weights have not moved.

    Args:
        step: How many steps were taken before.
        run: Name of the run's folder, where several trainings follow one another.
    """

    def __init__(self, step: int, *, run: str | None = None) -> None:
        self.step, self.run = step, run

    def on_optimizer_step(self, args, state, control, **_):
        if state.global_step == self.step and self.run in (None, Path(args.output_dir).name):
            raise KeyboardInterrupt


class KilledOnceSaved(TrainerCallback):
    """Stops as soon as the checkpoint of a step is there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt
