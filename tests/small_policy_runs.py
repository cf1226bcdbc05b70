"""Small runs of `train policy` that tests share."""

import json
import re
from pathlib import Path

from trueup.recipes.policy_settings import PromptsRecipe, TrainPolicy, WatchRecipe

ROOT = Path(__file__).resolve().parents[1]
LENGTH, SHORTNESS, REMAINDER = (f"policy_rewards:{name}" for name in ("length", "shortness", "remainder"))


def prompts(path: Path, count: int, *, first: int = 0) -> str:
    """A file of prompts."""
    path.write_text("".join(json.dumps({"prompt": f"Fruit {i}:"}) + "\n" for i in range(first, first + count)))
    return str(path)


def recipe(base: Path, folder: Path, **changes) -> TrainPolicy:
    """Two steps of four prompts with two replies each."""
    known = {"output": folder / "run", "max_steps": 2, "batch_size": 4, "samples": 2, "max_new_tokens": 5}
    known |= {"learning_rate": 1e-2, "warmup": 0.0, "logging_steps": 1, "reward": REMAINDER}
    data = PromptsRecipe(train=prompts(folder / "train.jsonl", 12))
    return TrainPolicy(model=str(base), data=data, **(known | changes))


def watch(folder: Path, **changes) -> WatchRecipe:
    held_out = prompts(folder / "watch.jsonl", 5, first=50)
    return WatchRecipe(prompts=held_out, **({"every": 1, "gold": SHORTNESS} | changes))


def names_logged(run: Path) -> set[str]:
    return {name for line in (run / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)}


def documented() -> set[str]:
    """Names on the page of metrics."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([a-z0-9_/]+)`", page))
