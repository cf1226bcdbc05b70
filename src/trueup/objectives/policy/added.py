"""What all terms have in common that are added to a method's loss."""

from dataclasses import dataclass

from trueup.functional.policy_batch import not_negative
from trueup.types import PolicyBatch


@dataclass(frozen=True, kw_only=True)
class Added:
    """A term with a coefficient, which prepares nothing.

    Args:
        coefficient: What the term is multiplied by.
    """

    coefficient: float

    def __post_init__(self) -> None:
        not_negative("coefficient", self.coefficient)

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Return the batch as it is."""
        return batch
