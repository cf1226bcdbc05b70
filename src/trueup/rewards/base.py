"""What is optimised or audited: anything that scores responses to prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from trueup.data.rows import Prompt

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Rewards of several responses to each of several prompts, flat in that order.

    Args:
        reward: One value per response; higher is better.
        prompt: Index of each response's prompt.
        length: Tokens of each response's own text where a tokenizer is known, else characters.
        hidden: Vector that enters the reward head, where the reward is a model.
        before_norm: Norm of that vector before the model's final normalisation.
        head: Weight of the reward head, where the reward is a model.
        members: Rewards of an ensemble's members.
    """

    reward: Float[Array, " responses"]
    prompt: Int[Array, " responses"]
    length: Float[Array, " responses"]
    hidden: Float[Array, "responses d"] | None = None
    before_norm: Float[Array, " responses"] | None = None
    head: Float[Array, " d"] | None = None
    members: Float[Array, "members responses"] | None = None

    def grouped(self) -> list[Float[Array, " k"]]:
        """Rewards of each prompt's responses."""
        if not len(self.prompt):
            return []
        return np.split(self.reward, np.flatnonzero(np.diff(self.prompt)) + 1)


@runtime_checkable
class Reward(Protocol):
    """Anything that scores."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i."""
        ...


ScoreFunction = Callable[..., Sequence[float]]
"""TRL's signature: `f(prompts, completions, **columns) -> list[float]`, one prompt per completion."""
