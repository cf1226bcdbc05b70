"""Objectives, by name: what a recipe may choose from.

A reward-model loss has two axes: an objective that says what a preference is worth, and regularisers that are added.
BT-BSR is `bradley_terry` with `bsr`; BT-DR is `bradley_terry` with `direct_rewards`.
"""

from collections.abc import Mapping

from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.objectives.reward.centering import Centering
from trueup.objectives.reward.direct_rewards import DirectRewards
from trueup.objectives.reward.hinge import Hinge
from trueup.objectives.reward.logit_normalized import LogitNormalized
from trueup.objectives.reward.margin import Margin
from trueup.objectives.reward.plackett_luce import PlackettLuce
from trueup.types import RewardObjective

REWARD_OBJECTIVES: Mapping[str, type[RewardObjective]] = {
    "bradley_terry": BradleyTerry,
    "margin": Margin,
    "hinge": Hinge,
    "logit_normalized": LogitNormalized,
    "plackett_luce": PlackettLuce,
}

REWARD_REGULARIZERS: Mapping[str, type[RewardObjective]] = {
    "bsr": BatchSumToZero,
    "centering": Centering,
    "direct_rewards": DirectRewards,
}

__all__ = [
    "REWARD_OBJECTIVES",
    "REWARD_REGULARIZERS",
    "BatchSumToZero",
    "BradleyTerry",
    "Centering",
    "DirectRewards",
    "Hinge",
    "LogitNormalized",
    "Margin",
    "PlackettLuce",
]
