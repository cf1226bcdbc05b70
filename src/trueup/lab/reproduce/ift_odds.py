"""The odds-ratio term of ORPO, one of the methods that IFT is compared with."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.functional.preference import kept_pairs, logistic, of_pairs
from trueup.functional.segments import branch_mean
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class OddsRatio:
    """`-c log sigmoid(log odds(y_w) - log odds(y_l))` per pair, in nats, with `odds = p / (1 - p)`.

    p is the geometric mean of the probabilities of a response's tokens. ORPO adds it to the likelihood of the chosen
    response, `ChosenLikelihood`; there is no reference.

    **Source**: Hong, Lee, Thorne (2024), ORPO: Monolithic preference optimization without reference model
    (arXiv 2403.07691), eq. 6 and 7.
    **Deviations**: none known.
    **Limits**: `c log 2` where both responses are as likely a token. Small probabilities are their own odds, so that it
    becomes SimPO's margin without a target.

    Args:
        coefficient: c above; the paper's lambda.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in OddsRatio(coefficient=1.0)(two_preferences(), {}).values.tolist()]
    [0.2877, 0.4363]
    """

    unit: ClassVar[Unit] = "pair"
    needs: ClassVar[frozenset[Need]] = frozenset()
    coefficient: float = 0.1

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        chosen, rejected = of_pairs(branch_mean(batch.logprob, batch.branch, len(batch.prompt)), batch)
        return Loss(self.coefficient * logistic(log_odds(chosen) - log_odds(rejected)), kept_pairs(batch))


def log_odds(logprob: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`log(p / (1 - p))` of `log p`; p is kept from 1, where it has none.

    >>> round(log_odds(torch.tensor(0.25).log()).item(), 4)
    -1.0986
    """
    below = logprob.clamp(max=-torch.finfo(logprob.dtype).eps)
    return below - torch.log(-torch.expm1(below))
