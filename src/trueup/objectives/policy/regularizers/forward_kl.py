"""KL of the reference from the policy, whole responses at a time."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import forward_kl
from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_logprob, branch_ratio
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.limited import Limited
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ForwardKL(Limited):
    """`c KL(ref || pi)`: its value is `1 - u - l u`, its gradient `(1 - u) grad log pi(y|x)`.

    With `l = log pi(y|x) - log pi_ref(y|x)` and `u = e^-l`, both are unbiased for responses y on policy, in nats per
    response, where pi gives weight to all that the reference does. u goes on along its tangent beyond -l = `limit`,
    which is a bias where it happens: `forward_kl_beyond_limit` is how often.

    **Source**: importance weights from the policy to the reference; the limit as in arXiv 2403.03185.
    **Deviations**: on further steps over the same responses it is approximate.
    **Limits**: the gradient of `ReleasedKL`.

    Args:
        coefficient: c above.
        limit: Largest -l whose exponential is taken as it is, nats.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ForwardKL(coefficient=1)(two_groups(), {}).values[2:].tolist()]
    [0.1534, 0.1534]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.05

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ratio = branch_ratio(batch).detach()
        weight = -continued_expm1(-ratio, self.limit)
        values = self.coefficient * with_score(forward_kl(ratio, self.limit), weight, branch_logprob(batch))
        beyond = (-ratio > self.limit).to(values.dtype)
        return Loss(values, batch.kept, metrics={"forward_kl_beyond_limit": beyond})
