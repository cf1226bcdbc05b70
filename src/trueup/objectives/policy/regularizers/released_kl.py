"""The KL term of the correlated-proxies code, as released."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import continued_k3
from trueup.functional.policy_batch import branch_ratio
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReleasedKL(Added):
    """`c (l + e^-l - 1)` per response, differentiated as it stands, `l = log pi(y|x) - log pi_ref(y|x)`.

    On policy its **value** is unbiased for KL(pi || ref), its **gradient** `(1 - e^-l) grad log pi(y|x)` for that of
    KL(ref || pi): it descends the forward KL. e^-l goes on along its tangent beyond -l = 10.

    **Source**: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv 2403.03185), released code.
    **Deviations**: none. There the same coefficient also weighs the KL in the reward; here that one is separate.
    **Limits**: the gradient of `ForwardKL`; for what the name promises take `ReverseKL`.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ReleasedKL(coefficient=1)(two_groups(), {}).values.tolist()]
    [0.6363, 0.0, 0.1931, 0.1931]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.05

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        return Loss(self.coefficient * continued_k3(branch_ratio(batch)), batch.kept)
