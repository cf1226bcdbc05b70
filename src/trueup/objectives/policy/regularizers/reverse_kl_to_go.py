"""KL of the policy from the reference, each token blamed for what follows."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import token_ratio
from trueup.functional.segments import branch_sum, reverse_cumsum
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReverseKLToGo(Added):
    """`c KL(pi || ref)`: its value is `l = sum_t l_t`, k1; its gradient `sum_t (l_t + l_{t+1} + ...) grad log pi(y_t)`.

    Unbiased as `ReverseKL` is, in nats per response: a token has no influence on the log-ratios before it, so that
    leaving them out changes no expectation and takes away noise.

    **Source**: reward-to-go, applied to the score-function gradient of the sequence-level KL.
    **Deviations**: on further steps over the same responses, which are no longer drawn from pi, it is approximate.
    **Limits**: `ReverseKL` for responses of one token.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ReverseKLToGo(coefficient=1)(two_groups(), {}).values.tolist()]
    [1.3863, 0.0, 0.6931, 0.6931]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.05

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ratio = token_ratio(batch)
        values = with_score(ratio, reverse_cumsum(ratio, batch.branch), batch.logprob)
        return Loss(self.coefficient * branch_sum(values, batch.branch, len(batch.prompt)), batch.kept)
