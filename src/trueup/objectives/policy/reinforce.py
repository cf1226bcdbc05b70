"""REINFORCE against the mean of the batch."""

from dataclasses import dataclass, replace
from typing import ClassVar

from trueup.functional.policy_batch import branch_logprob, given
from trueup.functional.segments import branch_sum, shared_value
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """`-A log pi(y | x)` per response, with `A = R - mean R` over all that was drawn together.

    R is the sum of `token_reward`: WARP's `r_beta = r - beta (log pi - log pi_anchor)`, when the reference is its
    moving average.

    **Source**: Williams (1992); for policies of text Rame et al., "WARP" (arXiv 2406.16768), whose baseline is not
    stated.
    **Deviations**: for responses on policy. Further steps on the same ones are not corrected for; RLOO and PPO are.
    **Limits**: as a response counts in its own baseline, the expected gradient is (n - 1) / n times that of R, for n
    responses.

    >>> from trueup.objectives.example import two_groups
    >>> reinforce = Reinforce()
    >>> [round(x, 4) for x in reinforce(reinforce.prepare(two_groups()), {}).values.tolist()]
    [1.3863, -1.3863, 0.0, 0.0]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add advantages."""
        total = branch_sum(given(batch.token_reward, "token_reward"), batch.branch, len(batch.prompt))
        return replace(batch, advantage=(total - total.mean())[batch.branch])

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        advantage = shared_value(given(batch.advantage, "advantage"), batch.branch, len(batch.prompt))
        return Loss(-advantage * branch_logprob(batch), batch.kept)
