"""Full-vocabulary KL of the reference from the policy, on the policy's own text."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import given
from trueup.functional.segments import branch_mean
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ForwardKLPrior(Added):
    """`c max(0, K)` per response, K the mean over its tokens of KL(ref(. | y_<t) || pi(. | y_<t)), in nats.

    A prior on the text that is learned from, not the KL of the sampling distribution: prefixes are held fixed.

    **Source**: Mukobi et al., "SuperHF" (arXiv 2310.16763).
    **Deviations**: averaged over the step's responses; `ForwardKLPriorSum` adds them up, as released.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ForwardKLPrior(coefficient=1)(two_groups(), {}).values.tolist()]
    [0.2, 0.0, 0.4, 0.2]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"forward_kl"})
    coefficient: float = 0.35

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        mean = branch_mean(given(batch.forward_kl, "forward_kl"), batch.branch, len(batch.prompt))
        # No KL is negative; rounding may be.
        return Loss(self.coefficient * mean.relu(), batch.kept)
