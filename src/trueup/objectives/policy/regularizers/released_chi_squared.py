"""The chi-squared of the correlated-proxies code, as released."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import continued_chi2
from trueup.functional.policy_batch import branch_ratio
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReleasedChiSquared(Added):
    """`c (e^l + e^-l - 2)` per response, differentiated as it stands, `l = log pi(y|x) - log pi_ref(y|x)`.

    On policy its **value** is unbiased for chi2(pi || ref), its **gradient** `(e^l - e^-l) grad log pi(y|x)` for that
    of `chi2(pi || ref) / 2 + KL(ref || pi)`. The exponentials go on along their tangents beyond |l| = 10.

    **Source**: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv 2403.03185), released code, without the root that
    it takes of the batch's mean: `ReleasedSqrtChiSquared` has it.
    **Deviations**: none.
    **Limits**: the value of `ChiSquared`, whose gradient is that of chi-squared.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ReleasedChiSquared(coefficient=1)(two_groups(), {}).values.tolist()]
    [2.25, 0.0, 0.5, 0.5]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.001

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        return Loss(self.coefficient * continued_chi2(branch_ratio(batch)), batch.kept)
