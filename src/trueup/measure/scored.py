"""What every measure reads: one model's rewards on one split, as flat arrays."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class ScoredSplit:
    """Rewards of all responses of one data split under one model.

    Args:
        name: Name of the split, as the report prints it.
        reward: Reward of each response.
        prompt: Index of each response's prompt, 0..prompts-1, non-decreasing.
        pairs: Indices (chosen, rejected) into `reward`; empty where the data state no preference.
        length: Length of each response, in tokens where a tokenizer is known, else in characters.
        gold: Gold score of each response (NaN where unknown), or None.
        hidden: Vector that enters the reward head, or None for rewards that are not models.
        before_norm: Euclidean norm of the same vector before the model's final normalisation, or None.
        head: Weight of the reward head, or None.
        subset: Name of each prompt's subset, or None.
        ids: Identifier of each prompt.
    """

    name: str
    reward: Float[Array, " responses"]
    prompt: Int[Array, " responses"]
    pairs: Int[Array, "pairs 2"]
    length: Float[Array, " responses"]
    gold: Float[Array, " responses"] | None = None
    hidden: Float[Array, "responses d"] | None = None
    before_norm: Float[Array, " responses"] | None = None
    head: Float[Array, " d"] | None = None
    subset: tuple[str | None, ...] | None = None
    ids: tuple[str, ...] = field(default=())

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return int(self.prompt[-1]) + 1 if len(self.prompt) else 0

    @property
    def margin(self) -> Float[Array, " pairs"]:
        """Reward of chosen minus reward of rejected, for each pair."""
        return self.reward[self.pairs[:, 0]] - self.reward[self.pairs[:, 1]]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Args:
        value: Point estimate; NaN where it is undefined.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many independent units (prompts, pairs, seeds) it rests on.
    """

    value: float
    low: float
    high: float
    n: int
