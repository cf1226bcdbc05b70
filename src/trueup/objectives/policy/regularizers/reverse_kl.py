"""KL of the policy from the reference, whole responses at a time."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import branch_logprob, branch_ratio
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReverseKL(Added):
    """`c KL(pi || ref)`: its value is k1, `l = log pi(y|x) - log pi_ref(y|x)`; its gradient `l grad log pi(y|x)`.

    Both are unbiased for responses y on policy, in nats per response. Differentiating k1 itself gives `grad log pi`,
    which is 0 on average: nothing would be held.

    **Source**: the score-function gradient of the sequence-level KL; k1 of Schulman (2020), Approximating KL
    divergence.
    **Deviations**: on further steps over the same responses, which are no longer drawn from pi, it is approximate.
    **Limits**: the gradient of `Tsallis` at index 1; of `ReverseKLToGo`, which varies less.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ReverseKL(coefficient=1)(two_groups(), {}).values.tolist()]
    [1.3863, 0.0, 0.6931, 0.6931]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.05

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ratio = branch_ratio(batch)
        return Loss(self.coefficient * with_score(ratio, ratio, branch_logprob(batch)), batch.kept)
