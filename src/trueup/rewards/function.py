"""A reward that is a Python function."""

import importlib
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.rewards.base import ScoreFunction, Scores


@dataclass(frozen=True)
class FunctionReward:
    """Wraps `f(prompts, completions) -> list[float]`, the signature of TRL's reward functions.

    Conversational prompts are passed as lists of `{"role", "content"}`, plain ones as text; each prompt is repeated for
    its responses.

    Args:
        function: The function.
        name: What reports call it.
    """

    function: ScoreFunction
    name: str

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score all responses in one call.

        Raises:
            RecipeError: The function returns another number of values, or something that is not a finite number.
        """
        index = np.repeat(np.arange(len(prompts)), [len(group) for group in responses])
        flat = [text for group in responses for text in group]
        asked = [_plain(prompts[i]) for i in index]
        values = list(self.function(prompts=asked, completions=flat))
        if len(values) != len(flat):
            raise RecipeError(f"{self.name} returned {len(values)} rewards for {len(flat)} responses; return one each")
        for position, value in enumerate(values):
            # None is TRL's "not applicable"; 0.0 is an ordinary score.
            if value is None or not math.isfinite(value):
                raise RecipeError(f"{self.name} returned {value!r} for response {position}; return a finite number")
        length = np.asarray([len(text) for text in flat], float)
        return Scores(reward=np.asarray(values, float), prompt=index, length=length)


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt]


def import_function(path: str) -> FunctionReward:
    """Load `package.module:function`.

    Raises:
        RecipeError: There is no such module or function.
    """
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"{path}: cannot be imported ({error}); write it as package.module:function") from error
    if not callable(function) or inspect.isclass(function):
        raise RecipeError(f"{path}: is not a function; write a function f(prompts, completions) -> list[float]")
    return FunctionReward(function, name)
