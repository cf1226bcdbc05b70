"""MODPO for tests: a tiny policy that may name one fruit or another, and two rewards in conflict."""

from pathlib import Path

from run_files import write
from trueup.recipes.modpo_settings import ModpoWatch, TrainModpo
from trueup.recipes.preference_settings import PreferenceData

SCORED: list[tuple[str, str]] = []
"""Every prompt and response that `pears` scored."""


def plums(prompts, completions):
    """Naming plums is good."""
    return [1.4 * ("plums" in text) for text in completions]


def pears(prompts, completions):
    """Naming pears is good."""
    SCORED.extend(zip((str(prompt) for prompt in prompts), completions, strict=True))
    return [1.4 * ("pears" in text) for text in completions]


def preferences(count: int, *, chosen: str = "plums") -> list[dict]:
    """One fruit is preferred to the other in four of five pairs, about as often as its reward says."""
    other = "pears" if chosen == "plums" else "plums"
    said = [(chosen, other) if i % 5 else (other, chosen) for i in range(count)]
    return [
        {"prompt": f"Fruit {i}:", "chosen": f" {better}", "rejected": f" {worse}"}
        for i, (better, worse) in enumerate(said)
    ]


def small_recipe(base: Path, folder: Path, **changes) -> TrainModpo:
    data = PreferenceData(train=str(write(folder / "train.jsonl", preferences(20))), max_length=64)
    known = {
        "output": folder / "modpo",
        "data": data,
        "weights": [[0.9, 0.1], [0.2, 0.8]],
        "reward": {"pears": "small_modpo:pears"},
        "max_new_tokens": 3,
        "max_steps": 3,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 1000,
    }
    return TrainModpo(model=str(base), **(known | changes))


def small_watch(folder: Path, *, prompts: int = 4, samples: int = 4) -> ModpoWatch:
    path = write(folder / "watch.jsonl", [{"prompt": f"Fruit {i}:"} for i in range(50, 50 + prompts)])
    return ModpoWatch(prompts=str(path), samples=samples, resamples=50)


EVALUATORS = {"plums": "small_modpo:plums", "pears": "small_modpo:pears"}
