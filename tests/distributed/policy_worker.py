"""Fine-tuning of a policy in one process, or as one of two: `python policy_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_policies import reply_rows, tiny_policy
from tiny_training import FORM, TOKENIZER, arguments
from trueup.objectives import IFT, NegativeLogLikelihood
from trueup.train.policy_trainer import PolicyTrainer

STEP_ROWS = 8
SCENARIOS = {"sft": NegativeLogLikelihood(), "ift": IFT(mix=0.4)}


def run(folder: Path, *, rank: int = 0, world: int = 1) -> None:
    """Every scenario in turn."""
    for name in SCENARIOS:
        learn(folder, name, rank=rank, world=world)


def learn(folder: Path, name: str, *, rank: int, world: int) -> None:
    """Three steps, the last of 5 rows, with a checkpoint after the second; weights, logs and an evaluation."""
    # One row is far larger than the others, so that devices have different numbers of parts.
    rows = [*reply_rows(20, seed=7, longest=10), *reply_rows(1, seed=8, longest=120)]
    trainer = PolicyTrainer(
        tiny_policy("gpt2", sharing="trees"),
        arguments(
            folder / f"run-{name}",
            per_device_train_batch_size=STEP_ROWS // world,
            max_steps=-1,
            num_train_epochs=1,
            save_strategy="steps",
            save_steps=2,
        ),
        terms=(SCENARIOS[name],),
        train_dataset=rows,
        eval_dataset=reply_rows(STEP_ROWS + 1, seed=9),
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=120,
    )
    trainer.train()
    found = {"logs": trainer.state.log_history, "eval": trainer.evaluate()}
    torch.save(trainer.accelerator.get_state_dict(trainer.model), folder / f"{name}-{rank}.pt")
    (folder / f"{name}-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]), world=int(os.environ["WORLD_SIZE"]))
