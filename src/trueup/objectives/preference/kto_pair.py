"""KTO's value function on pairs."""

from dataclasses import dataclass
from math import inf

import torch

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import kept_pairs, of_pairs, pair_loss, require
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class KTOPair(ImpliedReward):
    """`(a (1 - sigmoid(beta (l_w - z_l))) + b (1 - sigmoid(beta (z_w - l_l)))) / 2` per pair, with l as in DPO.

    `z_w = max(mean of l_w, 0)` and `z_l = max(mean of l_l, 0)` over the pairs of the whole step estimate the KL that a
    gain or a loss is felt against; they carry no gradient. Each half of the pair is held against the other's.

    **Source**: Ethayarajh et al., "KTO: model alignment as prospect theoretic optimization" (arXiv 2402.01306), eq. 7
    for the value of a gain and of a loss; on pairs, as its first report and early versions of TRL had it (`kto_pair`).
    **Deviations**: that release took z over each device's micro-batch and differentiated it, which the paper says not
    to do. The paper now estimates one z for all from responses to other prompts, which pairs alone do not give.
    **Limits**: a quarter of (a + b) at pi = pi_ref. While both means are below 0, z is 0 and a pair is two losses of
    single responses.

    Args:
        beta: Strength of the KL regulariser.
        desirable_weight: a above; lambda_D of the paper.
        undesirable_weight: b above; lambda_U of the paper.

    >>> from trueup.objectives.example import two_preferences
    >>> kto, batch = KTOPair(beta=1), two_preferences()
    >>> [round(x, 4) for x in kto(batch, kto.statistics(batch)).values.tolist()]
    [0.2612, 0.4142]
    """

    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("desirable_weight", "undesirable_weight"):
            cure = "1 is usual; to leave a side out, take one near 0"
            require(0 < getattr(self, name) < inf, name, getattr(self, name), must="be positive", cure=cure)

    def statistics(self, batch: PolicyBatch, /) -> Stats:
        """Return the sums of both sides' log-ratios, and the number of pairs."""
        chosen, rejected = of_pairs(branch_ratio(batch).detach(), batch)
        kept = kept_pairs(batch)
        if kept is not None:
            chosen, rejected = chosen[kept], rejected[kept]
        return {"chosen": chosen.sum(), "rejected": rejected.sum(), "pairs": torch.ones_like(chosen).sum()}

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        ratio = branch_ratio(batch)
        chosen, rejected = of_pairs(ratio, batch)
        pairs = stats["pairs"].clamp(min=1)
        chosen_kl, rejected_kl = (stats[side].div(pairs).clamp(min=0) for side in ("chosen", "rejected"))
        # 1 - sigmoid(x) = sigmoid(-x), without cancellation.
        gain = self.desirable_weight * torch.sigmoid(self.beta * (rejected_kl - chosen))
        loss = self.undesirable_weight * torch.sigmoid(self.beta * (rejected - chosen_kl))
        return pair_loss((gain + loss) / 2, self.beta * ratio, batch)
