"""The Bradley-Terry oracle of a reward."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.rewards.base import Reward
from trueup.rewards.oracle import Array


@dataclass(frozen=True)
class RewardOracle:
    """`P(y > y' | x) = sigmoid((r(x, y) - r(x, y')) / scale)`.

    Consistent and transitive by construction. A response that is compared several times is scored once.

    **Source** Bradley & Terry (1952), Rank Analysis of Incomplete Block Designs.

    Args:
        reward: What scores.
        scale: Difference of rewards that counts as one nat of log-odds, in the reward's unit; positive. A judge's 1 to
            10, for one, is no log-odds.
    """

    reward: Reward
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise RecipeError(f"scale must be positive and finite, got {self.scale}")

    @property
    def name(self) -> str:
        """That of the reward."""
        return self.reward.name

    def prefer(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float[Array, " comparisons"]:
        """Compare rewards.

        Raises:
            RecipeError: A reward is not a finite number.
        """
        places: dict[Prompt, dict[str, int]] = {}
        for prompt, *compared in zip(prompts, first, second, strict=True):
            group = places.setdefault(prompt, {})
            for text in compared:
                group.setdefault(text, len(group))
        if not places:
            return np.zeros(0)
        values = self._score(places)
        start = dict(zip(places, np.cumsum([0, *map(len, places.values())]).tolist(), strict=False))
        a, b = (
            values[[start[prompt] + places[prompt][text] for prompt, text in zip(prompts, texts, strict=True)]]
            for texts in (first, second)
        )
        return expit((a - b) / self.scale)

    def _score(self, places: dict[Prompt, dict[str, int]]) -> Float[Array, " responses"]:
        groups = [list(group) for group in places.values()]
        values = np.asarray(self.reward.score(list(places), groups).reward, np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            text = [text for group in groups for text in group][bad[0]]
            raise RecipeError(f"{self.name} scored {values[bad[0]]} for the response {text[:80]!r}; it cannot compare")
        return values


def from_reward(reward: Reward, *, scale: float = 1.0) -> RewardOracle:
    """The Bradley-Terry oracle of any reward; see `RewardOracle`."""
    return RewardOracle(reward, scale)
