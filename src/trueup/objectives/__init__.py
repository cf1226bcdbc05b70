"""Objectives, by name: what a recipe may choose from.

A reward-model loss has two axes: an objective that says what a preference is worth, and regularisers that are added.
BT-BSR is `bradley_terry` with `bsr`; BT-DR is `bradley_terry` with `direct_rewards`. So has the loss of a policy that
learns from its own samples: PPO is `ppo` with `value_loss`, GRPO `grpo` with `forward_kl_k3`, SuperHF `superhf` with
`forward_kl_prior_sum`.
"""

from collections.abc import Mapping

from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.advantage.a_lol_kl import ALolKL
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.advantage.a_lol_seq import ALolSeq
from trueup.objectives.advantage.r_gold import RGold
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.advantage.wbc import WBC
from trueup.objectives.policy.grpo import GRPO
from trueup.objectives.policy.grpo_tokens import GRPOTokens
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.regularizers.chi_squared import ChiSquared
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.policy.regularizers.forward_kl import ForwardKL
from trueup.objectives.policy.regularizers.forward_kl_k3 import ForwardKLk3
from trueup.objectives.policy.regularizers.forward_kl_prior import ForwardKLPrior
from trueup.objectives.policy.regularizers.forward_kl_prior_sum import ForwardKLPriorSum
from trueup.objectives.policy.regularizers.released_chi_squared import ReleasedChiSquared
from trueup.objectives.policy.regularizers.released_kl import ReleasedKL
from trueup.objectives.policy.regularizers.released_sqrt_chi_squared import ReleasedSqrtChiSquared
from trueup.objectives.policy.regularizers.reverse_kl import ReverseKL
from trueup.objectives.policy.regularizers.reverse_kl_k2 import ReverseKLk2
from trueup.objectives.policy.regularizers.reverse_kl_to_go import ReverseKLToGo
from trueup.objectives.policy.regularizers.sqrt_chi_squared import SqrtChiSquared
from trueup.objectives.policy.regularizers.tsallis import Tsallis
from trueup.objectives.policy.reinforce import Reinforce
from trueup.objectives.policy.reinforce_normalized import ReinforceNormalized
from trueup.objectives.policy.rloo import RLOO
from trueup.objectives.policy.superhf import SuperHF
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.objectives.preference.alpha_dpo import AlphaDPO
from trueup.objectives.preference.cdpo import CDPO
from trueup.objectives.preference.chi_squared_dpo import ChiSquaredDPO
from trueup.objectives.preference.chi_squared_po import ChiSquaredPO
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.forward_kl_dpo import ForwardKLDPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.objectives.preference.hinge import HingeDPO
from trueup.objectives.preference.inpo import INPO
from trueup.objectives.preference.ipo import IPO
from trueup.objectives.preference.ipo_mean import IPOMean
from trueup.objectives.preference.js_dpo import JensenShannonDPO
from trueup.objectives.preference.kto_pair import KTOPair
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.preference.robust_dpo import RobustDPO
from trueup.objectives.preference.simpo import SimPO
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.objectives.reward.centering import Centering
from trueup.objectives.reward.direct_rewards import DirectRewards
from trueup.objectives.reward.hinge import Hinge
from trueup.objectives.reward.logit_normalized import LogitNormalized
from trueup.objectives.reward.margin import Margin
from trueup.objectives.reward.plackett_luce import PlackettLuce
from trueup.objectives.supervised.ift import IFT
from trueup.objectives.supervised.ift_paper import IFTPaper
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.types import OnlineObjective, PolicyObjective, RewardObjective

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

POLICY_OBJECTIVES: Mapping[str, type[OnlineObjective]] = {
    "rloo": RLOO,
    "reinforce": Reinforce,
    "reinforce_normalized": ReinforceNormalized,
    "ppo": PPO,
    "grpo": GRPO,
    "grpo_tokens": GRPOTokens,
    "superhf": SuperHF,
}

POLICY_REGULARIZERS: Mapping[str, type[OnlineObjective]] = {
    "value_loss": ValueLoss,
    "reverse_kl": ReverseKL,
    "reverse_kl_to_go": ReverseKLToGo,
    "reverse_kl_k2": ReverseKLk2,
    "forward_kl": ForwardKL,
    "forward_kl_k3": ForwardKLk3,
    "forward_kl_prior": ForwardKLPrior,
    "forward_kl_prior_sum": ForwardKLPriorSum,
    "chi_squared": ChiSquared,
    "sqrt_chi_squared": SqrtChiSquared,
    "tsallis": Tsallis,
    "entropy": EntropyBonus,
    "released_kl": ReleasedKL,
    "released_chi_squared": ReleasedChiSquared,
    "released_sqrt_chi_squared": ReleasedSqrtChiSquared,
}

ADVANTAGE_OBJECTIVES: Mapping[str, type[PolicyObjective]] = {
    "a_lol": ALol,
    "a_lol_ref_free": ALolRefFree,
    "a_lol_seq": ALolSeq,
    "a_lol_kl": ALolKL,
    "r_lol": RLol,
    "wbc": WBC,
    "r_gold": RGold,
}

SUPERVISED_OBJECTIVES: Mapping[str, type[PolicyObjective]] = {
    "sft": NegativeLogLikelihood,
    "ift": IFT,
    "ift_paper": IFTPaper,
}

PREFERENCE_OBJECTIVES: Mapping[str, type[PolicyObjective]] = {
    "dpo": DPO,
    "ipo": IPO,
    "ipo_mean": IPOMean,
    "cdpo": CDPO,
    "robust_dpo": RobustDPO,
    "hinge": HingeDPO,
    "simpo": SimPO,
    "kto_pair": KTOPair,
    "forward_kl_dpo": ForwardKLDPO,
    "js_dpo": JensenShannonDPO,
    "alpha_dpo": AlphaDPO,
    "chi_squared_dpo": ChiSquaredDPO,
    "chi_squared_po": ChiSquaredPO,
    "h_dpo": HDPO,
    "modpo": MODPO,
    "inpo": INPO,
}

__all__ = [
    "ADVANTAGE_OBJECTIVES",
    "CDPO",
    "DPO",
    "GRPO",
    "HDPO",
    "IFT",
    "INPO",
    "IPO",
    "MODPO",
    "POLICY_OBJECTIVES",
    "POLICY_REGULARIZERS",
    "PPO",
    "PREFERENCE_OBJECTIVES",
    "REWARD_OBJECTIVES",
    "REWARD_REGULARIZERS",
    "RLOO",
    "SUPERVISED_OBJECTIVES",
    "WBC",
    "ALol",
    "ALolKL",
    "ALolRefFree",
    "ALolSeq",
    "AlphaDPO",
    "BatchSumToZero",
    "BradleyTerry",
    "Centering",
    "ChiSquared",
    "ChiSquaredDPO",
    "ChiSquaredPO",
    "DirectRewards",
    "EntropyBonus",
    "ForwardKL",
    "ForwardKLDPO",
    "ForwardKLPrior",
    "ForwardKLPriorSum",
    "ForwardKLk3",
    "GRPOTokens",
    "Hinge",
    "HingeDPO",
    "IFTPaper",
    "IPOMean",
    "JensenShannonDPO",
    "KTOPair",
    "LogitNormalized",
    "Margin",
    "NegativeLogLikelihood",
    "PlackettLuce",
    "RGold",
    "RLol",
    "Reinforce",
    "ReinforceNormalized",
    "ReleasedChiSquared",
    "ReleasedKL",
    "ReleasedSqrtChiSquared",
    "ReverseKL",
    "ReverseKLToGo",
    "ReverseKLk2",
    "RobustDPO",
    "SimPO",
    "SqrtChiSquared",
    "SuperHF",
    "Tsallis",
    "ValueLoss",
]
