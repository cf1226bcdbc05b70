"""The recipe of `trueup train reward`."""

from dataclasses import dataclass, field

from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.config import choice
from trueup.recipes.data import DataRecipe
from trueup.recipes.run_settings import LoraRecipe, Schedule, TrainingRun
from trueup.types import RewardObjective

__all__ = ["LoraRecipe", "Schedule", "TrainReward"]


@dataclass(frozen=True, kw_only=True)
class TrainReward(TrainingRun):
    """Train a reward model.

    Args:
        model: Directory or hub id of a causal model, an encoder, or a reward model to go on from.
        data: Where preferences come from.
        objective: What a preference is worth.
        regularizer: What is added to it; none for plain Bradley-Terry.
        seed: Seed of the head, the order of the data and flipped labels.
    """

    data: DataRecipe
    objective: choice(REWARD_OBJECTIVES, default="bradley_terry") = field(default_factory=BradleyTerry)  # type: ignore[valid-type]
    regularizer: choice(REWARD_REGULARIZERS, default="bsr") = field(default_factory=BatchSumToZero)  # type: ignore[valid-type]

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch."""
        return self.data.eval is not None

    @property
    def terms(self) -> tuple[RewardObjective, ...]:
        """The loss: the objective and what is added to it."""
        return tuple(term for term in (self.objective, self.regularizer) if term is not None)
