"""What all methods have in common that weigh a response by its clamped ratio to the reference."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import not_negative
from trueup.types import Unit


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """A loss of single responses whose ratio to the reference is a weight within bounds.

    Args:
        clip: How far the ratio may be from 1.
    """

    unit: ClassVar[Unit] = "branch"
    clip: float = 0.9

    def __post_init__(self) -> None:
        not_negative("clip", self.clip)
