"""Responses of several prompts in one line, for rewards that look at one response at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trueup.data.rows import Prompt
from trueup.errors import DataError
from trueup.rewards.base import Scores


class Asked(NamedTuple):
    """One response to be scored; `row` counts prompts from 1."""

    prompt: Prompt
    response: str
    row: int


def flatten(prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[Asked]:
    """All responses in order, each with its prompt.

    Raises:
        DataError: A prompt has no responses.
    """
    empty = [row for row, group in enumerate(responses, 1) if not group]
    if empty:
        raise DataError("the prompt has no responses", row=empty[0], expected="at least one response to score")
    return [
        Asked(prompt, text, row)
        for row, (prompt, group) in enumerate(zip(prompts, responses, strict=True), 1)
        for text in group
    ]


def scores_of(reward: np.ndarray, flat: Sequence[Asked]) -> Scores:
    """Scores of responses, with lengths in characters."""
    return Scores(
        reward=reward,
        prompt=np.asarray([one.row - 1 for one in flat], int),
        length=np.asarray([len(one.response) for one in flat], float),
    )
