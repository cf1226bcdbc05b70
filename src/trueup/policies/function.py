"""A policy that is a Python function."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.callables import import_callable
from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.policies.base import Sample

SampleFunction = Callable[[list[Any], int, int], Iterable[Iterable[str]]]
"""`f(prompts, count, seed)`: `count` responses to each prompt."""


@dataclass(frozen=True)
class FunctionPolicy:
    """Wraps `f(prompts, count, seed) -> list[list[str]]`.

    A conversational prompt is a list of `{"role", "content"}`; a plain one is text. The function keeps the promise
    that the same seed gives the same responses. Lengths are in characters.

    Args:
        function: The function.
        name: What reports call it.
    """

    function: SampleFunction
    name: str

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        """Draw `count` responses to each prompt in one call.

        Raises:
            RecipeError: The function returns another number of responses, or something that is no text.
        """
        asked = [prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt] for prompt in prompts]
        groups = self._groups(self.function(asked, count, seed))
        if len(groups) != len(asked):
            raise RecipeError(
                f"{self.name} returned responses to {len(groups)} prompts, not {len(asked)}; return a list for each"
            )
        return [
            [Sample(text, len(text)) for text in self._texts(group, count, number)]
            for number, group in enumerate(groups, 1)
        ]

    def _groups(self, returned: object) -> list[Any]:
        if inspect.iscoroutine(returned):
            returned.close()
            raise RecipeError(f"{self.name} is an async function; write an ordinary one")
        if not isinstance(returned, Iterable) or isinstance(returned, str):
            raise RecipeError(f"{self.name} returned {returned!r:.80}; return a list of responses for each prompt")
        return list(returned)

    def _texts(self, group: object, count: int, number: int) -> list[str]:
        if not isinstance(group, Iterable) or isinstance(group, str):
            raise RecipeError(f"{self.name} returned {group!r:.80} for prompt {number}; return a list of {count} texts")
        texts = list(group)
        if len(texts) != count:
            raise RecipeError(f"{self.name} returned {len(texts)} responses to prompt {number}; return {count}")
        for text in texts:
            if not isinstance(text, str):
                raise RecipeError(f"{self.name} returned {text!r:.80} as a response to prompt {number}; return text")
        return texts


def import_policy(path: str) -> FunctionPolicy:
    """Load `package.module:function`; modules in the working directory are found too.

    Raises:
        RecipeError: There is no such module or function.
    """
    function, name = import_callable(path, signature="f(prompts, count, seed) -> list[list[str]]")
    return FunctionPolicy(function, name)
