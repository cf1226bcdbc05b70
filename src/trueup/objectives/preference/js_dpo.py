"""f-DPO with the Jensen-Shannon divergence."""

from dataclasses import dataclass
from math import log

import torch.nn.functional as F

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import logistic, margin_of_pairs, pair_loss
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class JensenShannonDPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = beta f'(u) = beta log(2u / (1 + u))`.

    u is pi / pi_ref, and `f(u) = u log u - (1 + u) log((1 + u) / 2)` is that of twice the Jensen-Shannon divergence;
    r is below beta log 2.

    **Source**: Wang et al., "Beyond reverse KL: generalizing direct preference optimization with diverse divergence
    constraints" (arXiv 2309.16240), theorem 1.
    **Deviations**: TRL's `js_divergence` logs DPO's rewards; here they are r.
    **Limits**: its minimiser over all policies maximises `E r - 2 beta JS(pi, pi_ref)` where labels follow
    Bradley-Terry with rewards r. Where pi falls far below pi_ref, r is DPO's plus beta log 2.

    Args:
        beta: Strength of the regulariser.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in JensenShannonDPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.4855, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * (log(2) + F.logsigmoid(branch_ratio(batch)))
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
