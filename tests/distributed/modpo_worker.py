"""A sweep of MODPO in one process, or as one of two: `python modpo_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import small_modpo
from tiny_models import make_tokenizer, save_base
from trueup.recipes.train_modpo import train_modpo


def run(folder: Path, *, rank: int = 0) -> None:
    """Two policies, each with the other reward as a margin; the front, and what was scored here."""
    os.environ["TRUEUP_CACHE"] = str(folder / "cache")
    small_modpo.SCORED.clear()
    base = save_base(folder / f"base-{rank}", make_tokenizer(bos="<s>", pad="<pad>"), dtype="float32")
    place = folder / f"data-{rank}"
    place.mkdir()
    recipe = small_modpo.small_recipe(
        base,
        place,
        output=folder / "sweep",
        watch=small_modpo.small_watch(place),
        evaluators=small_modpo.EVALUATORS,
        hypervolume_from=[-0.1, -0.1],
        learning_rate=1e-2,
    )
    found = train_modpo(recipe)
    told = {"scored": len(small_modpo.SCORED), "front": found.front, "models": [str(one) for one in found.models]}
    (folder / f"found-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]))
