"""Keep the next token uncertain."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import given, kept_tokens
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class EntropyBonus(Added):
    """`-c H(pi(. | y_<t))` per token, over the whole vocabulary, in nats.

    Its gradient is that of the entropies with the prefixes y_<t held fixed: that tokens may lead to where more is open
    is left out.

    **Source**: Mnih et al., "Asynchronous methods for deep reinforcement learning" (arXiv 1602.01783), section 4.
    **Deviations**: none.

    Args:
        coefficient: c above, for the mean over all tokens of a step.

    >>> from trueup.objectives.example import two_groups
    >>> EntropyBonus(coefficient=1)(two_groups(), {}).values[:2].tolist()
    [-0.5, -0.5]
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset({"entropy"})
    coefficient: float = 0.01

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token."""
        return Loss(-self.coefficient * given(batch.entropy, "entropy"), kept_tokens(batch))
