"""H-DPO: the entropy's own coefficient."""

from dataclasses import dataclass
from math import inf

from trueup.functional.policy_batch import given
from trueup.functional.preference import logistic, margin_of_pairs, pair_loss, require
from trueup.functional.segments import branch_sum
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class HDPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = alpha beta log pi(y | x) - beta log pi_ref(y | x)`.

    The regulariser is `beta E_pi[alpha log pi - log pi_ref]`: the reverse KL with its entropy weighed by alpha. Below
    1 the policy is sharper than DPO's, above 1 more diverse.

    **Source**: Omura, Fujita, Kataoka, "Entropy controllable direct preference optimization" (arXiv 2411.07595).
    **Deviations**: none known; derived from the stated regulariser.
    **Limits**: `DPO` at `alpha = 1`; always DPO with alpha beta and the log-probabilities of the reference divided by
    alpha. Its minimiser over all policies is `pi_ref^(1/alpha) exp(r / (alpha beta))`, normalised, where labels follow
    Bradley-Terry with rewards r. At pi = pi_ref it is not log 2, but depends on the length of responses.

    Args:
        beta: Strength of the regulariser.
        alpha: Weight of the entropy.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in HDPO(beta=1, alpha=0.5)(two_preferences(), {}).values.tolist()]
    [0.2231, 1.0986]
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        cure = "1 is DPO, 0.8 to 0.95 is sharper, and alpha beta should stay above one over the usual log-ratio in nats"
        require(0 < self.alpha < inf, "alpha", self.alpha, must="be positive", cure=cure)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        token_reward = self.beta * (self.alpha * batch.logprob - given(batch.reference, "reference"))
        reward = branch_sum(token_reward, batch.branch, len(batch.prompt))
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
