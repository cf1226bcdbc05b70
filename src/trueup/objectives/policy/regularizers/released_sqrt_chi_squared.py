"""The root of chi-squared of the correlated-proxies code, as released."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trueup.divergences.estimators import continued_chi2
from trueup.functional.policy_batch import branch_ratio
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit

_FLOOR = 1e-4


@dataclass(frozen=True, kw_only=True)
class ReleasedSqrtChiSquared(Added):
    """`c sqrt(max(X, 1e-4))`, X the mean of `e^l + e^-l - 2` over the step's responses, differentiated as it stands.

    With `l = log pi(y|x) - log pi_ref(y|x)`, on policy X is unbiased for chi2(pi || ref), while the gradient is that of
    `chi2(pi || ref) / 2 + KL(ref || pi)`, divided by 2 sqrt(X); 0 while X is below 1e-4. The exponentials go on
    along their tangents beyond |l| = 10.

    **Source**: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv 2403.03185), released code.
    **Deviations**: X is taken over the whole step, not over each device's micro-batch.
    **Limits**: the value of `SqrtChiSquared`, whose gradient is that of the root.

    Args:
        coefficient: c above; the released example has 0.0008.

    >>> from trueup.objectives.example import two_groups
    >>> term, batch = ReleasedSqrtChiSquared(coefficient=1), two_groups()
    >>> round(term(batch, term.statistics(batch)).values.mean().item() ** 2, 6)
    0.8125
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.0008

    def statistics(self, batch: PolicyBatch, /) -> Stats:
        """Return the sum of estimates over branches, and their number."""
        estimate = continued_chi2(branch_ratio(batch).detach())
        counted = estimate if batch.kept is None else estimate[batch.kept]
        return {"chi2_sum": counted.sum(), "branches": counted.new_tensor(len(counted))}

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        estimate = continued_chi2(branch_ratio(batch))
        mean = stats["chi2_sum"] / stats["branches"].clamp(min=1)
        root = mean.clamp(min=_FLOOR).sqrt()
        # The derivative of the root of the step's mean, shared out over its branches.
        slope = torch.where(mean >= _FLOOR, 1 / (2 * root), 0)
        values = root + slope * (estimate - estimate.detach())
        return Loss(self.coefficient * values, batch.kept)
