"""The recipe of `trueup train reward`."""

from dataclasses import dataclass, field
from typing import Literal

from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.config import Recipe, check_range, choice
from trueup.recipes.data import DataRecipe
from trueup.recipes.run_settings import LoraRecipe, Schedule, TrainingRun
from trueup.rewards.aggregates import AGGREGATES, Mean
from trueup.types import RewardObjective

__all__ = ["EnsembleRecipe", "LoraRecipe", "Schedule", "TrainReward"]


@dataclass(frozen=True, kw_only=True)
class EnsembleRecipe(Recipe):
    """Several members on one trunk, trained together.

    Args:
        size: Number of members.
        kind: `heads`: each member is a head, and they train the trunk (or its adapter) together. `lora`: each is an
            adapter of the top layers with its head, as `lora` describes it, and nothing is shared but frozen weights.
        layers: Number of layers that members of kind `lora` adapt, counted from the top; below them the trunk is
            computed once for all, without gradient. Above, `token_budget` counts a token once for each member.
        bootstrap: Give each member its own resample of the rows; else they differ by their initial weights alone.
        aggregate: How members become one reward when the model scores.
    """

    size: int = 5
    kind: Literal["heads", "lora"] = "heads"
    layers: int = 2
    bootstrap: bool = True
    aggregate: choice(AGGREGATES, default="mean") = field(default_factory=Mean)  # type: ignore[valid-type]

    def __post_init__(self) -> None:
        check_range(self, "size", low=2)
        check_range(self, "layers", low=1)


@dataclass(frozen=True, kw_only=True)
class TrainReward(TrainingRun):
    """Train a reward model.

    Args:
        model: Directory or hub id of a causal model, an encoder, or a reward model to go on from.
        data: Where preferences come from.
        objective: What a preference is worth.
        regularizer: What is added to it; none for plain Bradley-Terry.
        ensemble: Train several members at once, such as `{size: 5}`.
        seed: Seed of the head, the order of the data and flipped labels.
    """

    data: DataRecipe
    objective: choice(REWARD_OBJECTIVES, default="bradley_terry") = field(default_factory=BradleyTerry)  # type: ignore[valid-type]
    regularizer: choice(REWARD_REGULARIZERS, default="bsr") = field(default_factory=BatchSumToZero)  # type: ignore[valid-type]
    ensemble: EnsembleRecipe | None = None

    @property
    def adapter(self) -> LoraRecipe | None:
        """The adapter to train, which members of kind `lora` have in any case."""
        members = self.ensemble is not None and self.ensemble.kind == "lora"
        return self.lora or (LoraRecipe() if members else None)

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch."""
        return self.data.eval is not None

    @property
    def terms(self) -> tuple[RewardObjective, ...]:
        """The loss: the objective and what is added to it."""
        return tuple(term for term in (self.objective, self.regularizer) if term is not None)
