"""Weighted behaviour cloning."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import weighted_loss
from trueup.functional.policy_batch import branch_logprob, given
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class WBC:
    """`-R log pi(y | x)` per response.

    **Source**: the baseline wBC of Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718).
    **Deviations**: none.
    **Limits**: with all rewards 1 the likelihood of whole responses. A policy that can be anything ends at pi(y | x)
    proportional to pi_data(y | x) R(x, y). R must not be negative, or the response is pushed down without any bound.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in WBC()(two_groups(), {}).values.tolist()]
    [4.1589, 1.3863, 1.3863, 4.1589]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        return Loss(weighted_loss(given(batch.reward, "reward"), branch_logprob(batch)), batch.kept)
