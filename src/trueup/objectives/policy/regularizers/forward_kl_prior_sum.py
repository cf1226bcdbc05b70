"""SuperHF's KL prior as released: added up over the responses of a step."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import given
from trueup.functional.segments import branch_mean
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ForwardKLPriorSum(Added):
    """`c sum_i max(0, K_i)`, K_i the mean over response i's tokens of KL(ref(. | y_<t) || pi(. | y_<t)), in nats.

    The sum is over the responses of an optimiser step that are kept, so that its weight grows with their number.

    **Source**: Mukobi et al., "SuperHF" (arXiv 2310.16763), released code, which has two responses a step.
    **Deviations**: the released mask is one token late; here the prior counts where responses are predicted.
    **Limits**: n times `ForwardKLPrior` for n responses.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_groups
    >>> term, batch = ForwardKLPriorSum(coefficient=1), two_groups()
    >>> round(term(batch, term.statistics(batch)).values.mean().item(), 4)
    0.8
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"forward_kl"})
    coefficient: float = 0.35

    def statistics(self, batch: PolicyBatch, /) -> Stats:
        """Return the number of branches."""
        return {"branches": batch.logprob.new_tensor(len(batch.prompt))}

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        mean = branch_mean(given(batch.forward_kl, "forward_kl"), batch.branch, len(batch.prompt))
        # The trainer divides by the number of the step's branches, kept or not.
        return Loss(self.coefficient * stats["branches"] * mean.relu(), batch.kept)
