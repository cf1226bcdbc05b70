"""Two rounds of INPO in one process, or as one of two: `python inpo_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import small_inpo
from tiny_models import make_tokenizer, save_base
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_inpo import train_inpo

SCENARIOS = {"whole": {}, "adapter": {"lora": LoraRecipe(rank=2, alpha=8), "learning_rate": 2e-2}}


def run(folder: Path, *, rank: int = 0) -> None:
    """Every scenario, and how many comparisons this process asked for."""
    os.environ["TRUEUP_CACHE"] = str(folder / "cache")
    torch.manual_seed(0)
    base = save_base(folder / f"base-{rank}", make_tokenizer(bos="<s>", pad="<pad>"), dtype="float32")
    for name, changes in SCENARIOS.items():
        small_inpo.forget()
        place = folder / f"prompts-{rank}-{name}"
        place.mkdir()
        recipe = small_inpo.small_recipe(base, place, batch_size=6, epochs=2, output=folder / name, **changes)
        found = train_inpo(recipe)
        told = {"asked": len(small_inpo.ASKED), "rounds": [one["pairs"] for one in found.rounds]}
        (folder / f"{name}-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]))
