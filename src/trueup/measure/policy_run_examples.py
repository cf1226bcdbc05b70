"""What a policy said along the way: at the start, at gold's peak, and at the end."""

from typing import Any

import numpy as np
from jaxtyping import Int

from trueup.data.watched import Watched
from trueup.errors import DataError
from trueup.measure.scored import Array

RULE = "the prompts on which gold falls most from its best step to the end (or the proxy gains most, without gold)"


def examples(watched: Watched, *, most: int) -> dict[str, Any]:
    """Prompts with the first response at the start, at the step with the highest gold, and at the end.

    Without gold the step between is the one in the middle.

    Args:
        watched: A history with texts.
        most: How many prompts.

    Raises:
        DataError: The history has no texts.
    """
    if not watched.responses:
        raise DataError("no texts are known", field="responses")
    if watched.proxy is None:
        raise DataError("no proxy is known", field="proxy")
    middle = _middle(watched)
    stages = list(dict.fromkeys((0, middle, len(watched) - 1)))
    return {
        "rule": RULE,
        "middle": "the highest gold" if _has_gold(watched) else "the middle of the run",
        "prompts": [
            {"prompt": watched.prompts[i], "choices": [_choice(watched, k, i) for k in stages]}
            for i in _order(watched, middle)[:most].tolist()
        ],
    }


def _has_gold(watched: Watched) -> bool:
    return watched.gold is not None and bool(np.all(np.isfinite(watched.gold)))


def _middle(watched: Watched) -> int:
    gold = watched.by_prompt("gold")
    return int(np.argmax(gold.mean(axis=1))) if gold is not None and _has_gold(watched) else len(watched) // 2


def _order(watched: Watched, middle: int) -> Int[Array, " prompts"]:
    """Prompts, the most telling first; judged by the very responses that are shown."""
    if watched.gold is not None and _has_gold(watched):
        change = watched.gold[-1, :, 0] - watched.gold[middle, :, 0]
        return np.argsort(change, kind="stable")
    proxy = watched.proxy
    return np.arange(len(watched.prompts)) if proxy is None else np.argsort(proxy[0, :, 0] - proxy[-1, :, 0])


def _choice(watched: Watched, point: int, prompt: int) -> dict[str, Any]:
    values = {
        name: None if (table := getattr(watched, name)) is None else float(table[point, prompt, 0])
        for name in ("proxy", "gold", "kl", "tokens")
    }
    return {"step": int(watched.steps[point]), "text": watched.responses[point][prompt][0], **values}
