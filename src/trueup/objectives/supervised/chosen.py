"""The likelihood of preferred responses, added to a loss of preferences."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.preference import kept_pairs, of_pairs
from trueup.functional.segments import branch_mean
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ChosenLikelihood(Added):
    """`-c log pi(y_w | x) / |y_w|` per pair, in nats.

    Losses of a margin may let both responses become unlikely, the chosen one only less so; this holds the chosen up.

    **Source**: Pang et al., "Iterative reasoning preference optimization" (arXiv 2404.19733), the NLL term of its
    loss; there DPO has the weight alpha, and c = 1 / alpha is the same up to the loss's scale.
    **Deviations**: none. TRL's `sft` averages over all tokens of a micro-batch instead, in which long responses weigh
    more.
    **Limits**: alone and with one pair a prompt, fine-tuning on chosen responses, in which each counts the same.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in ChosenLikelihood()(two_preferences(), {}).values.tolist()]
    [0.6931, 0.6931]
    """

    unit: ClassVar[Unit] = "pair"
    needs: ClassVar[frozenset[Need]] = frozenset()
    coefficient: float = 1.0

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        chosen, _ = of_pairs(branch_mean(batch.logprob, batch.branch, len(batch.prompt)), batch)
        return Loss(-self.coefficient * chosen, kept_pairs(batch))
