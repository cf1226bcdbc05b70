"""Supervised fine-tuning: the likelihood of demonstrated responses."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import kept_tokens
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class NegativeLogLikelihood:
    """Negative log-likelihood of each response token, prompts not counted.

    loss_t = -log pi(y_t | x, y_<t), averaged over all response tokens of a step.
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """One value per response token, in nats."""
        return Loss(-batch.logprob, kept_tokens(batch))
