"""The world's gold as plain functions, which commands can name: `--gold trueup.lab.world.functions:gold`."""

from collections.abc import Mapping, Sequence
from typing import Any

from trueup.lab.world.comparisons import World


def gold(prompts: Sequence[Any], completions: Sequence[Any], **_columns: Any) -> list[float]:
    """Gold reward of one completion per prompt, in the signature of TRL's reward functions.

    Raises:
        DataError: A prompt is not one of the world's.
    """
    world = World()
    return [world.gold(_last(p), _last(c)) for p, c in zip(prompts, completions, strict=True)]


def gold_features(prompts: Sequence[Any], completions: Sequence[Any], **_columns: Any) -> list[Mapping[str, float]]:
    """Gold's breakdown of one completion per prompt: the five features in their own units, by name."""
    world = World()
    return [world.gold_features(_last(p), _last(c)) for p, c in zip(prompts, completions, strict=True)]


def _last(turns: Any) -> str:
    """Text, or the content of the last of several turns."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"])
