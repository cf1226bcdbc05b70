"""Root of the chi-squared of the policy from the reference."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import continued_chi2
from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_logprob, branch_ratio, positive
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.limited import Limited
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class SqrtChiSquared(Limited):
    """`c sqrt(X)`, X the step's estimate of chi2(pi || ref); its gradient is `(e^l - 1) grad log pi(y|x) / sqrt(X)`.

    With `l = log pi(y|x) - log pi_ref(y|x)`, X is the mean of `e^l + e^-l - 2` over the step's responses. For responses
    on policy value and gradient tend to those of the root as their number grows.

    **Source**: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv 2403.03185), theorem 5.1: with c =
    sigma sqrt(1 - r^2), sigma the proxy's deviation under the reference and r its correlation with the true reward.
    **Deviations**: X is not let below `floor`, but the gradient goes on there, divided by its root. The released term
    differentiates X: `ReleasedSqrtChiSquared`. On further steps over the same responses it is approximate.

    Args:
        coefficient: c above, in reward units.
        limit: Largest |l| whose exponential is taken as it is, nats.
        floor: Least X.

    >>> from trueup.objectives.example import two_groups
    >>> term, batch = SqrtChiSquared(coefficient=1), two_groups()
    >>> round(term(batch, term.statistics(batch)).values.mean().item() ** 2, 6)
    0.8125
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.1
    floor: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("limit", self.limit)
        positive("floor", self.floor)

    def statistics(self, batch: PolicyBatch, /) -> Stats:
        """Return the sum of estimates over branches, and their number."""
        estimate = continued_chi2(branch_ratio(batch).detach(), self.limit)
        counted = estimate if batch.kept is None else estimate[batch.kept]
        return {"chi2_sum": counted.sum(), "branches": counted.new_tensor(len(counted))}

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ratio = branch_ratio(batch).detach()
        root = (stats["chi2_sum"] / stats["branches"].clamp(min=1)).clamp(min=self.floor).sqrt()
        weight = continued_expm1(ratio, self.limit) / root
        values = self.coefficient * with_score(root.expand_as(ratio), weight, branch_logprob(batch))
        beyond = (ratio.abs() > self.limit).to(values.dtype)
        return Loss(values, batch.kept, metrics={"chi2_beyond_limit": beyond})
