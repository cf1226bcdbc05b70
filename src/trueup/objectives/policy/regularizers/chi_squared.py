"""Chi-squared of the policy from the reference."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import continued_chi2
from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_logprob, branch_ratio
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.limited import Limited
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ChiSquared(Limited):
    """`c chi2(pi || ref)`: its value is `e^l + e^-l - 2`, its gradient `2 (e^l - 1) grad log pi(y|x)`.

    With `l = log pi(y|x) - log pi_ref(y|x)` both are unbiased for responses y on policy; the value is never negative.
    The gradient is that of `E[2 e^l grad log pi]`; the 2 that is taken away is a baseline, which is worth 0 on average.
    e^l goes on along its tangent beyond `limit`, where it would say more about one response than about the policy:
    `chi2_beyond_limit` is how often.

    **Source**: chi-squared as the divergence to hold: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv
    2403.03185).
    **Deviations**: the released term differentiates its value, and so descends another divergence:
    `ReleasedChiSquared`. On further steps over the same responses it is approximate.
    **Limits**: the gradient of `Tsallis` at index 2.

    Args:
        coefficient: c above.
        limit: Largest |l| whose exponential is taken as it is, nats.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ChiSquared(coefficient=1)(two_groups(), {}).values.tolist()]
    [2.25, 0.0, 0.5, 0.5]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.001

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ratio = branch_ratio(batch).detach()
        weight = 2 * continued_expm1(ratio, self.limit)
        values = with_score(continued_chi2(ratio, self.limit), weight, branch_logprob(batch))
        beyond = (ratio.abs() > self.limit).to(values.dtype)
        return Loss(self.coefficient * values, batch.kept, metrics={"chi2_beyond_limit": beyond})
