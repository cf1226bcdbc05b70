"""Preference labels from gold: Bradley-Terry noise and flipped labels."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, isfinite

import numpy as np

from trueup.data.rows import Row
from trueup.errors import DataError, RecipeError
from trueup.lab.world.language import chance


def preference_probability(gap: float, temperature: float) -> float:
    """Probability that the first of two responses is chosen.

    P(chosen = a) = sigmoid((gold_a - gold_b) / temperature); at temperature 0 the better one always, and a tie is even.

    Args:
        gap: Gold of the first minus gold of the second.
        temperature: In units of gold.
    """
    if gap == 0.0:
        return 0.5
    if temperature == 0.0:
        return float(gap > 0.0)
    scaled = gap / temperature
    return 1 / (1 + exp(-scaled)) if scaled > -500 else 0.0


def check_noise(temperature: float, flip: float) -> None:
    """Refuse noise settings that mean nothing.

    Raises:
        RecipeError: If the temperature is negative or not finite, or `flip` is not from 0 to 1.
    """
    if not (isfinite(temperature) and temperature >= 0):
        raise RecipeError(f"temperature must be zero or more, got {temperature}; 0 labels without noise")
    if not 0 <= flip <= 1:
        raise RecipeError(f"flip must lie between 0 and 1, got {flip}; 0.25 flips a quarter of the labels")


def label_pair(row: Row, *, temperature: float, flip: float, generator: np.random.Generator) -> Row:
    """Label a row's two scored responses; their order stays.

    Args:
        row: Two responses with scores.
        temperature: Of the Bradley-Terry noise, in units of gold.
        flip: Probability that a label is turned round after that.
        generator: Where chance comes from; two draws are taken.

    Raises:
        DataError: If the row does not hold two scored responses.
    """
    scores = [response.score for response in row.responses if response.score is not None]
    if len(row.responses) != 2 or len(scores) != 2:
        found = f"{len(row.responses)} responses, {len(scores)} of them scored"
        raise DataError(found, file=row.origin.file, row=row.origin.row, expected="two scored responses")
    (one, two), gap = row.responses, scores[0] - scores[1]
    first = chance(generator, preference_probability(gap, temperature)) != chance(generator, flip)
    return replace(row, responses=(replace(one, label=first), replace(two, label=not first)))


def pick_pair(row: Row, places: Sequence[int]) -> Row:
    """The row with two of its responses only."""
    return replace(row, responses=tuple(row.responses[place] for place in places))
