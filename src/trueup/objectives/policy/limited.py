"""What all terms have in common that take the exponential of a log-ratio."""

from dataclasses import dataclass

from trueup.divergences.estimators import LIMIT
from trueup.functional.policy_batch import positive
from trueup.objectives.policy.added import Added


@dataclass(frozen=True, kw_only=True)
class Limited(Added):
    """A term whose exponential goes on along its tangent from somewhere.

    Args:
        limit: From where, in nats.
    """

    limit: float = LIMIT

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("limit", self.limit)
