"""A reward that is a Python function."""

import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np

from trueup.callables import import_callable, told
from trueup.data.rows import Prompt
from trueup.errors import RecipeError, TrueupError
from trueup.rewards.base import ScoreFunction, Scores


@dataclass(frozen=True)
class FunctionReward:
    """Wraps `f(prompts, completions) -> list[float]`, the signature of TRL's reward functions.

    As there, a conversational prompt is a list of `{"role", "content"}` and its completion a list of one such turn;
    plain ones are text. Each prompt is repeated for its responses.

    Args:
        function: The function.
        name: What reports call it.
    """

    function: ScoreFunction
    name: str

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score all responses in one call.

        Raises:
            RecipeError: The function fails, returns another number of values, or something that is not a finite number.
        """
        index = np.repeat(np.arange(len(prompts)), np.asarray([len(group) for group in responses], int))
        flat = [text for group in responses for text in group]
        each = [prompt for prompt, group in zip(prompts, responses, strict=True) for _ in group]
        asked = [_plain(prompt) for prompt in each]
        replies = [_reply(prompt, text) for prompt, text in zip(each, flat, strict=True)]
        values = self._values(self._call(asked, replies))
        if len(values) != len(flat):
            raise RecipeError(f"{self.name} returned {len(values)} rewards for {len(flat)} responses; return one each")
        for position, value in enumerate(values):
            # None is TRL's "not applicable"; 0.0 is an ordinary score.
            if not isinstance(value, SupportsFloat) or not math.isfinite(value):
                raise RecipeError(f"{self.name} returned {value!r} for response {position}; return a finite number")
        length = np.asarray([len(text) for text in flat], float)
        return Scores(reward=np.asarray([float(value) for value in values]), prompt=index, length=length)

    def _call(self, prompts: list[Any], completions: list[Any]) -> object:
        try:
            return self.function(prompts=prompts, completions=completions)
        except TrueupError:
            raise
        except Exception as error:  # whatever its author's code raises
            raise RecipeError(f"{self.name} failed on {len(completions)} responses: {told(error)}") from error

    def _values(self, returned: object) -> list[Any]:
        if inspect.iscoroutine(returned):
            returned.close()
            raise RecipeError(f"{self.name} is an async function; write an ordinary one")
        if not isinstance(returned, Iterable):
            raise RecipeError(f"{self.name} returned {returned!r}; return a list of one number per response")
        return list(returned)


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt]


def _reply(prompt: Prompt, text: str) -> str | list[dict[str, str]]:
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def import_function(path: str) -> FunctionReward:
    """Load `package.module:function`; modules in the working directory are found too.

    Raises:
        RecipeError: There is no such module or function.
    """
    function, name = import_callable(path, signature="f(prompts, completions) -> list[float]")
    return FunctionReward(function, name)
