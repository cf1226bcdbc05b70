"""REINFORCE with rewards normalised over the batch."""

from dataclasses import dataclass, replace
from typing import ClassVar

from trueup.functional.advantages import whiten
from trueup.functional.policy_batch import branch_logprob, given
from trueup.functional.segments import branch_sum, shared_value
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReinforceNormalized:
    """`-A log pi(y | x)` per response, with `A = (R - mean R) / std R` over all that was drawn together.

    R is the sum of `token_reward`; std has n in its denominator.

    **Source**: Williams (1992) for REINFORCE; the normalisation is common practice.
    **Deviations**: for responses on policy, as `Reinforce` is.
    **Limits**: unchanged when all R are multiplied by a positive number or shifted, up to rounding.

    >>> from trueup.objectives.example import two_groups
    >>> reinforce = ReinforceNormalized()
    >>> [round(x, 4) for x in reinforce(reinforce.prepare(two_groups()), {}).values.tolist()]
    [1.9605, -1.9605, 0.0, 0.0]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add advantages."""
        total = branch_sum(given(batch.token_reward, "token_reward"), batch.branch, len(batch.prompt))
        return replace(batch, advantage=whiten(total)[batch.branch])

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        advantage = shared_value(given(batch.advantage, "advantage"), batch.branch, len(batch.prompt))
        return Loss(-advantage * branch_logprob(batch), batch.kept)
