"""WARP in one process, or as one of two: `python warp_worker.py FOLDER`."""

import json
import os
import sys
from dataclasses import fields
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import small_policy_runs
from tiny_models import make_tokenizer, save_base
from trueup.recipes.policy_settings import TrainPolicy
from trueup.recipes.train_warp import TrainWarp, train_warp


def run(folder: Path, *, rank: int = 0) -> None:
    """One iteration of two runs, their merge, and the front."""
    base = save_base(folder / f"base-{rank}", make_tokenizer(bos="<s>", pad="<pad>"), dtype="float32")
    place = folder / f"data-{rank}"
    place.mkdir()
    watch = small_policy_runs.watch(place)
    known = small_policy_runs.recipe(base, place, output=folder / "warp", watch=watch)
    own = {one.name: getattr(known, one.name) for one in fields(TrainPolicy)}
    del own["anchor"], own["temperature"]  # WARP has its own
    found = train_warp(TrainWarp(**own, iterations=1, front=[0.5, 1.0]))
    measured = {str(eta): one for eta, one in found.measured.items()}
    (folder / f"found-{rank}.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]))
