"""f-DPO with the forward KL."""

from dataclasses import dataclass

from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import LARGEST_LOG_RATIO, logistic, margin_of_pairs, pair_loss
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class ForwardKLDPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = beta f'(u) = beta (1 - 1 / u)` and `u = pi / pi_ref`.

    `f(u) = u - 1 - log u` is that of KL(pi_ref || pi), which spreads a policy over all that the reference does.

    **Source**: Wang et al., "Beyond reverse KL: generalizing direct preference optimization with diverse divergence
    constraints" (arXiv 2309.16240), theorem 1, where `f'(u) = -1 / u`: the constant cancels.
    **Deviations**: 1 / u goes on along its tangent above e^20. TRL's `forward_kl` is the same below, and logs DPO's
    rewards; here they are r.
    **Limits**: its minimiser over all policies maximises `E r - beta KL(pi_ref || pi)` where labels follow
    Bradley-Terry with rewards r. `AlphaDPO` at `alpha = 1`.

    Args:
        beta: Strength of the regulariser.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in ForwardKLDPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.3869, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = -self.beta * continued_expm1(-branch_ratio(batch), LARGEST_LOG_RATIO)
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
