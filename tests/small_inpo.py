"""INPO for tests: a tiny policy, prompts, and oracles that count what they are asked."""

import json
from pathlib import Path

from trueup.endpoints.failure import EndpointError
from trueup.recipes.inpo_settings import TrainInpo
from trueup.recipes.policy_settings import PromptsRecipe

ASKED: list[tuple[str, str, str]] = []
"""Every comparison that an oracle here was asked."""

FAILS_AFTER: list[int] = []
"""How many comparisons are answered before the oracle fails; never while this is empty."""


def prefer(prompts, first, second):
    """Preferences in a circle over lengths modulo 3, and a little more for what stands first."""
    if FAILS_AFTER and len(ASKED) + len(first) > FAILS_AFTER[0]:
        raise EndpointError("no answer", url="http://judge", attempts=3)
    ASKED.extend(zip((str(prompt) for prompt in prompts), first, second, strict=True))
    return [0.45 + 0.3 * (((len(a) - len(b)) % 3) % 3 == 1) + 0.1 * (a > b) for a, b in zip(first, second, strict=True)]


def score(prompts, completions):
    """A reward: the number of different characters."""
    ASKED.extend((str(prompt), text, "") for prompt, text in zip(prompts, completions, strict=True))
    return [float(len(set(text))) for text in completions]


def forget() -> None:
    """As if no oracle had been asked or told to fail."""
    ASKED.clear()
    FAILS_AFTER.clear()


def write_prompts(path: Path, numbers) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"question {i}:"}) + "\n" for i in numbers), encoding="utf-8")
    return path


def small_recipe(base: Path, folder: Path, *, prompts: int = 12, **changes) -> TrainInpo:
    known = {
        "output": folder / "inpo",
        "data": PromptsRecipe(train=str(write_prompts(folder / "prompts.jsonl", range(prompts)))),
        "oracle": "small_inpo:prefer",
        "rounds": 2,
        "samples": 4,
        "max_new_tokens": 5,
        "max_length": 64,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "eta": 0.1,
        "logging_steps": 1,
    }
    return TrainInpo(model=str(base), **(known | changes))
