"""Tsallis divergence of the policy from the reference."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import q_log
from trueup.functional.policy_batch import branch_logprob, branch_ratio, positive
from trueup.functional.surrogate import with_score
from trueup.objectives.policy.limited import Limited
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class Tsallis(Limited):
    """`c D_q(pi || ref)`: its value is `v = (e^((q-1) l) - 1) / (q - 1)`, its gradient `q v grad log pi(y|x)`.

    With `l = log pi(y|x) - log pi_ref(y|x)` both are unbiased for responses y on policy. The exponential goes on along
    its tangent where (q - 1) l exceeds `limit`, which is a bias where it happens.

    **Source**: the divergence of Zhu et al., "Generalized Munchausen reinforcement learning with Tsallis KL
    divergence" (arXiv 2301.11476), here of whole responses, by the score function.
    **Deviations**: on further steps over the same responses it is approximate.
    **Limits**: `ReverseKL` at index 1; chi-squared at index 2, with the value `e^l - 1`.

    Args:
        coefficient: c above.
        index: q above, positive.
        limit: Largest (q - 1) l whose exponential is taken as it is.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in Tsallis(coefficient=1)(two_groups(), {}).values.tolist()]
    [3.0, 0.0, 1.0, 1.0]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.001
    index: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("index", self.index)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        value = q_log(branch_ratio(batch).detach(), index=self.index, limit=self.limit)
        return Loss(self.coefficient * with_score(value, self.index * value, branch_logprob(batch)), batch.kept)
