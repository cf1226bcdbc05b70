"""SimPO: likelihood per token, without a reference."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from trueup.functional.preference import logistic, margin_of_pairs, pair_loss, require
from trueup.functional.segments import branch_mean
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, Need, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class SimPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l - gamma)` per pair, in nats, with `r = beta log pi(y | x) / |y|`.

    **Source**: Meng, Xia, Chen, "SimPO: simple preference optimization with a reference-free reward" (arXiv
    2405.14734), eq. 6.
    **Deviations**: none. TRL's `simpo` adds a likelihood term unless its `cpo_alpha` is 0.
    **Limits**: nothing holds the policy but its learning rate and the number of epochs.

    Args:
        beta: Reward per nat per token; the paper's 2 to 10 is far above what suits sums.
        gamma: Margin to be reached, in units of the reward; the authors begin at beta / 2.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in SimPO(beta=2, gamma=1)(two_preferences(), {}).values.tolist()]
    [0.5185, 0.8583]
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    beta: float = 2.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.gamma < inf, "gamma", self.gamma, must="not be negative", cure="take 0 for no margin")

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * branch_mean(batch.logprob, batch.branch, len(batch.prompt))
        return pair_loss(logistic(margin_of_pairs(reward, batch) - self.gamma), reward, batch)
