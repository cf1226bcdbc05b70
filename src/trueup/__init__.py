"""trueup: robust reward models, and measurements of how far a proxy can be trusted.

Every verb of the command line is a function here that takes a recipe. Names are loaded when they are first used, so
that importing trueup costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trueup.data.formats import read_rows
    from trueup.lab.world import World
    from trueup.objectives import (
        BatchSumToZero,
        BradleyTerry,
        Centering,
        DirectRewards,
        Hinge,
        LogitNormalized,
        Margin,
        PlackettLuce,
    )
    from trueup.recipes.audit_policy import AuditPolicy, audit_policy
    from trueup.recipes.audit_reward import AuditReward, audit_reward
    from trueup.recipes.best_of_n import best_of_n
    from trueup.recipes.best_of_n_settings import BestOfN
    from trueup.recipes.data import DataRecipe
    from trueup.recipes.data_check import DataCheck, data_check
    from trueup.recipes.data_split import DataSplit, data_split
    from trueup.recipes.demo import Demo, demo
    from trueup.recipes.inpo_settings import TrainInpo
    from trueup.recipes.modpo_settings import TrainModpo
    from trueup.recipes.policy_settings import TrainPolicy
    from trueup.recipes.preference_settings import TrainPreference
    from trueup.recipes.score import Score, score
    from trueup.recipes.train_inpo import train_inpo
    from trueup.recipes.train_modpo import train_modpo
    from trueup.recipes.train_policy import train_policy
    from trueup.recipes.train_preference import train_preference
    from trueup.recipes.train_reward import train_reward
    from trueup.recipes.train_settings import LoraRecipe, TrainReward
    from trueup.recipes.train_sft import TrainSft, train_sft
    from trueup.rewards.load import load_reward

_PLACES = {
    "trueup.data.formats": ("read_rows",),
    "trueup.lab.world": ("World",),
    "trueup.objectives": (
        "BatchSumToZero",
        "BradleyTerry",
        "Centering",
        "DirectRewards",
        "Hinge",
        "LogitNormalized",
        "Margin",
        "PlackettLuce",
    ),
    "trueup.recipes.audit_policy": ("AuditPolicy", "audit_policy"),
    "trueup.recipes.audit_reward": ("AuditReward", "audit_reward"),
    "trueup.recipes.best_of_n": ("best_of_n",),
    "trueup.recipes.best_of_n_settings": ("BestOfN",),
    "trueup.recipes.data": ("DataRecipe",),
    "trueup.recipes.data_check": ("DataCheck", "data_check"),
    "trueup.recipes.data_split": ("DataSplit", "data_split"),
    "trueup.recipes.demo": ("Demo", "demo"),
    "trueup.recipes.inpo_settings": ("TrainInpo",),
    "trueup.recipes.modpo_settings": ("TrainModpo",),
    "trueup.recipes.policy_settings": ("TrainPolicy",),
    "trueup.recipes.preference_settings": ("TrainPreference",),
    "trueup.recipes.score": ("Score", "score"),
    "trueup.recipes.train_inpo": ("train_inpo",),
    "trueup.recipes.train_modpo": ("train_modpo",),
    "trueup.recipes.train_policy": ("train_policy",),
    "trueup.recipes.train_preference": ("train_preference",),
    "trueup.recipes.train_reward": ("train_reward",),
    "trueup.recipes.train_settings": ("LoraRecipe", "TrainReward"),
    "trueup.recipes.train_sft": ("TrainSft", "train_sft"),
    "trueup.rewards.load": ("load_reward",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "AuditPolicy",
    "AuditReward",
    "BatchSumToZero",
    "BestOfN",
    "BradleyTerry",
    "Centering",
    "DataCheck",
    "DataRecipe",
    "DataSplit",
    "Demo",
    "DirectRewards",
    "Hinge",
    "LogitNormalized",
    "LoraRecipe",
    "Margin",
    "PlackettLuce",
    "Score",
    "TrainInpo",
    "TrainModpo",
    "TrainPolicy",
    "TrainPreference",
    "TrainReward",
    "TrainSft",
    "World",
    "audit_policy",
    "audit_reward",
    "best_of_n",
    "data_check",
    "data_split",
    "demo",
    "load_reward",
    "read_rows",
    "score",
    "train_inpo",
    "train_modpo",
    "train_policy",
    "train_preference",
    "train_reward",
    "train_sft",
]


def __getattr__(name: str) -> Any:
    if name in _PLACE_OF:
        return getattr(importlib.import_module(_PLACE_OF[name]), name)
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")
