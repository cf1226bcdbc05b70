"""Training on pairs in one process, or as one of two: `python preference_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from small_preferences import judged, make, policy, preferences
from trueup.models.reading import logprobs
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.preference.kto_pair import KTOPair
from trueup.train.reference_cache import model_fingerprint

STEP_ROWS = 8


def run(folder: Path, *, rank: int = 0, world: int = 1) -> None:
    """Three steps, the last of 5 rows, with statistics over the step; weights, logs, and what was asked and kept."""
    asked = []
    model = policy(sharing="trees")
    trainer = make(
        folder / "run",
        preferences(judged(21, seed=7)),
        terms=(KTOPair(), EntropyBonus()),
        model=model,
        evaluation=preferences(judged(STEP_ROWS + 1, seed=9)),
        budget=120,
        per_device_train_batch_size=STEP_ROWS // world,
        max_steps=-1,
        num_train_epochs=1,
    )

    def compute(rows):
        asked.extend(row.index for row in rows)
        return logprobs(model, rows, token_budget=200)

    for _ in range(2):  # the second time everything is there
        trainer.hold_against(compute, model=model_fingerprint(model, adapter=False), folder=folder / "cache")
    trainer.train()
    found = {"logs": trainer.state.log_history, "eval": trainer.evaluate(), "asked": asked}
    torch.save(trainer.accelerator.get_state_dict(trainer.model), folder / f"weights-{rank}.pt")
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]), world=int(os.environ["WORLD_SIZE"]))
