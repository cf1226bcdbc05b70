"""DPO: the policy as its own reward model."""

from dataclasses import dataclass

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import logistic, margin_of_pairs, pair_loss
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class DPO(ImpliedReward):
    """`-log sigmoid(beta (l_w - l_l))` per pair, in nats, with `l = log pi(y | x) - log pi_ref(y | x)`.

    The implied reward is beta l; log-probabilities are sums over the tokens of a response.

    **Source**: Rafailov et al., "Direct preference optimization" (arXiv 2305.18290), eq. 7.
    **Deviations**: none.
    **Limits**: its minimiser over all policies is `pi_ref exp(r / beta)`, normalised, where labels follow
    Bradley-Terry with rewards r. log 2 at pi = pi_ref.

    Args:
        beta: Strength of the KL regulariser.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in DPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.2231, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * branch_ratio(batch)
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
