"""A-LoL and its neighbours in bandits with contexts, on data of growing noise: exact mean rewards."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trueup.lab.games.bandit import BanditPlan, Method, bandits, learn_method, learn_reference, mean_reward
from trueup.lab.games.descent import Descent
from trueup.lab.reproduce.scale import Scale
from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.advantage.a_lol_kl import ALolKL
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.advantage.a_lol_seq import ALolSeq
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.advantage.wbc import WBC
from trueup.objectives.supervised.sft import NegativeLogLikelihood

Array = np.ndarray

NOISES = (0.0, 0.5, 0.9)
DATA, NLL, LONGER, BEHAVIOUR, R_LOL = "the data", "likelihood", "likelihood, as long again", "weighted cloning", "R-LoL"
REF_FREE, KL_ARM, A_LOL, SEQ = "A-LoL ref-free", "A-LoL KL", "A-LoL", "A-LoL seq"
NO_PRIORITY, NO_FILTER = "A-LoL, drawn alike", "A-LoL, drawn alike, no filter"
BANDITS_PER_SEED = 2

METHODS: Mapping[str, Method] = {
    LONGER: Method(term=NegativeLogLikelihood()),
    BEHAVIOUR: Method(term=WBC(), priority="reward"),
    R_LOL: Method(term=RLol(), priority="reward"),
    REF_FREE: Method(term=ALolRefFree(), priority="advantage", filtered=True),
    KL_ARM: Method(term=ALolKL(), priority="advantage", filtered=True),
    A_LOL: Method(term=ALol(), priority="advantage", filtered=True),
    SEQ: Method(term=ALolSeq(), priority="advantage", filtered=True),
    NO_PRIORITY: Method(term=ALol(), filtered=True),
    NO_FILTER: Method(term=ALol()),
}
"""Without the filter, responses whose advantage is not positive take part in steps, with weight 0."""


@dataclass(frozen=True, kw_only=True)
class BanditRuns:
    """What the bandits gave.

    Args:
        plan: How they were made and learned.
        reward: Mean reward by noise and method; of the data and of the reference as well.
        kept: Share of the data with a positive advantage, by noise.
    """

    plan: BanditPlan
    reward: Mapping[float, Mapping[str, Float[Array, " seeds"]]]
    kept: Mapping[float, Float[Array, " seeds"]]

    def difference(self, one: str, other: str, noise: float) -> Float[Array, " seeds"]:
        """One method minus another."""
        return self.reward[noise][one] - self.reward[noise][other]


def run_bandits(scale: Scale) -> BanditRuns:
    """Learn everything; seconds for each method."""
    numbers = [BANDITS_PER_SEED * seed + place for seed in scale.seeds for place in range(BANDITS_PER_SEED)]
    plan = BanditPlan(descent=Descent(steps=max(3 * scale.policy_steps**2 // 10, 1), learning_rate=0.02))
    reward: dict[float, dict[str, Array]] = {}
    kept: dict[float, Array] = {}
    for noise in NOISES:
        data = bandits(plan, numbers, noise=noise)
        reference, known = learn_reference(plan, data)
        kept[noise] = (known.advantage > 0).mean(axis=1)
        reward[noise] = {DATA: data.earned.mean(axis=1), NLL: mean_reward(data, reference)}
        for name, method in METHODS.items():
            policy = learn_method(plan, data, method, known=known, policy=copy.deepcopy(reference))
            reward[noise][name] = mean_reward(data, policy)
    return BanditRuns(plan=plan, reward=reward, kept=kept)
