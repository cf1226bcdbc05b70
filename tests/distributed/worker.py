"""What the tests of several processes run, in one process or as one of two: `python worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import EarlyStoppingCallback, TrainerCallback

from tiny_training import make_trainer, random_rows, tiny_reward_model
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero

STEP_ROWS = 8
TERMS = [BradleyTerry(), BatchSumToZero(coefficient=0.1, group_size=5), BatchSumToZero(coefficient=0.01)]


def build(folder: Path, world: int, **changes: object):
    """A trainer whose third step has 5 rows, and whose evaluation ends with a step of one row."""
    # One row is far larger than the others, so that devices have different numbers of parts.
    rows = [*random_rows(20, seed=7, longest=10), *random_rows(1, seed=8, longest=120)]
    return make_trainer(
        folder,
        tiny_reward_model("trees", family="gpt2"),
        rows=rows,
        evaluation=random_rows(STEP_ROWS + 1, seed=9),
        terms=TERMS,
        budget=120,
        per_device_train_batch_size=STEP_ROWS // world,
        max_steps=-1,
        num_train_epochs=1,
        **changes,
    )


def weights(trainer) -> dict[str, torch.Tensor]:
    """Whole weights; empty on all processes but the first where they are sharded."""
    whole = trainer.accelerator.get_state_dict(trainer.model)
    return {name: value.detach().clone() for name, value in whole.items()}


def straight(folder: Path, world: int) -> dict[str, object]:
    """Three steps; weights, logs and an evaluation."""
    trainer = build(folder, world)
    plans = []
    plan = trainer._plan
    trainer._plan = lambda rows: plans.append(plan(rows)) or plans[-1]
    trainer.train()
    found = trainer.evaluate()
    parts = [list(map(len, own)) for _, own in plans]
    return {"weights": weights(trainer), "logs": trainer.state.log_history, "eval": found, "parts": parts}


def resumed(folder: Path, world: int) -> dict[str, object]:
    """Two steps, and a third from the checkpoint."""
    first = build(folder, world, save_strategy="steps", save_steps=1, save_total_limit=2)
    first.add_callback(StopAfter(2))
    first.train()
    second = build(folder, world, save_strategy="steps", save_steps=1, save_total_limit=2)
    second.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    return {"weights": weights(second), "logs": second.state.log_history}


def best(folder: Path, world: int) -> dict[str, object]:
    """A run that gets worse at once and goes back to its first evaluation."""
    trainer = build(
        folder,
        world,
        learning_rate=0.3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
    )
    trainer.add_callback(EarlyStoppingCallback(1))
    trainer.train()
    found = trainer.evaluate()
    return {
        "weights": weights(trainer),
        "best": trainer.state.best_model_checkpoint,
        "best_loss": trainer.state.best_metric,
        "eval": found,
        "logs": trainer.state.log_history,
    }


class StopAfter(TrainerCallback):
    """Ends a run early, as a kill between two steps would."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step >= self.steps


SCENARIOS = {"straight": straight, "resumed": resumed, "best": best}


def run(folder: Path, *, rank: int = 0, world: int = 1) -> None:
    """Run every scenario and leave its results in the folder."""
    for name, scenario in SCENARIOS.items():
        result = scenario(folder / name, world)
        torch.save(result.pop("weights"), folder / f"{name}-{rank}.pt")
        (folder / f"{name}-{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]), world=int(os.environ["WORLD_SIZE"]))
