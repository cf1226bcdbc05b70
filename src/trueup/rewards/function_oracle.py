"""A preference oracle that is a Python function."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from trueup.callables import import_callable, told
from trueup.data.rows import Prompt
from trueup.errors import RecipeError, TrueupError
from trueup.rewards.oracle import Array, checked_probabilities

PreferenceFunction = Callable[..., Sequence[float]]
"""`f(prompts, first, second) -> list[float]`, probabilities that the first is preferred."""

_SIGNATURE = "f(prompts, first, second) -> list[float]"


@dataclass(frozen=True)
class FunctionOracle:
    """Wraps `f(prompts, first, second) -> list[float]`.

    A conversational prompt is a list of `{"role", "content"}`, a plain one text; responses are text.

    Args:
        function: The function.
        name: What reports call it.
    """

    function: PreferenceFunction
    name: str

    def prefer(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float[Array, " comparisons"]:
        """Compare all in one call.

        Raises:
            RecipeError: The function fails, or returns anything but one probability for each comparison.
        """
        asked = [prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt] for prompt in prompts]
        values = self._values(asked, list(first), list(second))
        return checked_probabilities(values, comparisons=len(asked), name=self.name)

    def _values(self, prompts: list[Any], first: list[str], second: list[str]) -> list[Any]:
        try:
            returned: object = self.function(prompts=prompts, first=first, second=second)
        except TrueupError:
            raise
        except Exception as error:  # whatever its author's code raises
            raise RecipeError(f"{self.name} failed on {len(prompts)} comparisons: {told(error)}") from error
        if inspect.iscoroutine(returned):
            returned.close()
            raise RecipeError(f"{self.name} is an async function; write an ordinary one")
        if not isinstance(returned, Iterable):
            raise RecipeError(f"{self.name} returned {returned!r}; return a list of one probability per comparison")
        return list(returned)


def import_oracle(path: str) -> FunctionOracle:
    """Load `package.module:function`; modules in the working directory are found too.

    Raises:
        RecipeError: There is no such module or function.
    """
    function, name = import_callable(path, signature=_SIGNATURE)
    return FunctionOracle(function, name)


def compares(function: Callable[..., Any]) -> bool:
    """Whether a function takes `first` and `second`, and so compares rather than scores."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have none
        return False
    return {"first", "second"} <= set(known)
