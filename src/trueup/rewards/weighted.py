"""A weighted sum of rewards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.rewards.base import Reward, Scores


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """`sum_i w_i R_i`; the parts are kept as `Scores.members`, in their own units and without their weights.

    Args:
        parts: The rewards.
        weights: One weight each, of either sign.
        name: What reports call it.
    """

    parts: Sequence[Reward]
    weights: Sequence[float]
    name: str = "reward"

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.weights) or not self.parts:
            raise RecipeError(f"{len(self.weights)} weights for {len(self.parts)} rewards; give each reward one weight")
        if not all(np.isfinite(self.weights)):
            raise RecipeError(f"reward weights must be finite, got {list(self.weights)}")

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i with every part."""
        scored = [part.score(prompts, responses) for part in self.parts]
        members = np.stack([one.reward for one in scored])
        total = np.asarray(self.weights) @ members
        return Scores(reward=total, prompt=scored[0].prompt, length=scored[0].length, members=members)
