"""The part of `trueup train preference` that turns rewards into weights of responses."""

from dataclasses import dataclass
from typing import Literal

from trueup.errors import RecipeError
from trueup.recipes.config import Recipe, check_range
from trueup.train.prompt_values import ValueFitting


@dataclass(frozen=True, kw_only=True)
class ValueRecipe(Recipe):
    """What the reference's own responses earn, which is subtracted from rewards; fitted before the first step.

    Args:
        development: File, folder or hub id of prompts that the reference answers; training prompts by default.
        split: Split of a folder or hub id.
        prompts: How many of them it answers.
        samples: Its responses to each, drawn at temperature 1.
        max_new_tokens: Length at which a response is cut.
        epochs: Passes over these prompts; the one with the smallest error on those held out is taken.
        learning_rate: Constant rate of AdamW for the value head.
        batch_size: Prompts of one of its steps.
        held_out: Share of the prompts whose error chooses the epoch.
    """

    development: str | None = None
    split: str | None = None
    prompts: int = 512
    samples: int = 4
    max_new_tokens: int = 256
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 32
    held_out: float = 0.2

    def __post_init__(self) -> None:
        check_range(self, "prompts", low=2)
        check_range(self, "samples", "max_new_tokens", low=1)
        if self.split is not None and self.development is None:
            raise RecipeError("advantage.value.split is of advantage.value.development, which is not given")
        _ = self.fitting(seed=0)

    def fitting(self, *, seed: int) -> ValueFitting:
        """How the value head is fitted."""
        return ValueFitting(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            held_out=self.held_out,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class AdvantageRecipe(Recipe):
    """What a response weighs, for methods that learn from rewards or advantages.

    Args:
        reward_max: R_max, the largest reward there is; the smallest is 0.
        scale: How scores become rewards: none takes them as they are, and refuses what lies outside [0, R_max];
            sigmoid is R_max / (1 + e^-score), for scores of reward models.
        priority: Draw rows in proportion to their advantages or rewards, with replacement, in place of shuffling.
        value: What is subtracted from rewards; for methods that learn from advantages.
    """

    reward_max: float = 1.0
    scale: Literal["none", "sigmoid"] = "none"
    priority: bool = True
    value: ValueRecipe | None = None

    def __post_init__(self) -> None:
        if not 0 < self.reward_max < float("inf"):
            raise RecipeError(f"advantage.reward_max must be positive and finite, got {self.reward_max}")
