"""Prompts with what each policy said, drawn by chance and not picked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trueup.measure.policy_audit_records import PolicyRecord
from trueup.measure.win_rate import wins

RULE = "prompts drawn at random, with the first response of each policy"


def examples(
    everyone: Mapping[str, PolicyRecord], prompts: Sequence[str], *, judged: Sequence[str], most: int, seed: int
) -> dict[str, Any] | None:
    """A few prompts with the first response of everyone, and how it was judged.

    Args:
        everyone: The reference, if there is one, and the policies.
        prompts: The prompts as text.
        judged: Names of those that are policies.
        most: How many prompts.
        seed: Decides which.
    """
    shown = {name: one for name, one in everyone.items() if one.drawn}
    if not shown or not prompts or not most:
        return None
    chosen = np.random.default_rng(seed).choice(len(prompts), min(most, len(prompts)), replace=False)
    return {
        "rule": RULE,
        "prompts": [
            {
                "prompt": prompts[i],
                "responses": [
                    {"name": name, "reference": name not in judged, **_first(one, i)} for name, one in shown.items()
                ],
            }
            for i in chosen.tolist()
        ],
    }


def _first(record: PolicyRecord, prompt: int) -> dict[str, Any]:
    drawn = record.drawn[0]
    place = prompt, 0
    return {
        "text": drawn.texts[prompt][0],
        "tokens": float(drawn.tokens[place]),
        "finished": bool(drawn.finished[place]),
        "correct": None if drawn.correct is None else int(drawn.correct[place]),
        "rewards": {name: float(table[place]) for name, table in record.rewards.items()},
        "wins": {
            name: float(wins(one.forward[prompt, :1], one.backward[prompt, :1])[0])
            for name, one in record.judged.items()
        },
    }
