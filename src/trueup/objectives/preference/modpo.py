"""MODPO: one objective's preferences, with the rewards of the others as a margin."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import branch_ratio, given
from trueup.functional.preference import logistic, margin_of_pairs, pair_loss, require
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, Need, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class MODPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = (beta l - m) / w` and l as in DPO.

    w is the weight of the objective whose preferences are given. m, the batch's `reward`, is the sum of the rewards of
    the other objectives, each times its own weight; it carries no gradient.

    **Source**: Zhou et al., "Beyond one-preference-fits-all alignment: multi-objective direct preference optimization"
    (arXiv 2310.03708), eq. 11.
    **Deviations**: none.
    **Limits**: `DPO` at w = 1 and m = 0; DPO with beta / w where m is the same for both responses. Its minimiser over
    all policies is `pi_ref exp((w r + m) / beta)`, normalised, where labels follow Bradley-Terry with rewards r: the
    same whichever objective's preferences are given. At pi = pi_ref it is not log 2.

    Args:
        beta: Strength of the KL regulariser.
        weight: w above. Weights need not add up to one.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in MODPO(beta=1, weight=0.5)(two_preferences(), {}).values.tolist()]
    [1.4844, 0.6931]
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "reward"})
    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        cure = "at 0 these preferences do not count: learn from those of another objective; below 0.05 margins explode"
        require(0 < self.weight <= 1, "weight", self.weight, must="lie in (0, 1]", cure=cure)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        others = given(batch.reward, "reward").detach()
        reward = (self.beta * branch_ratio(batch) - others) / self.weight
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
