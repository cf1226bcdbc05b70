"""What the methods have in common that read a reward off the policy."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from trueup.functional.preference import require
from trueup.types import Need, Unit


@dataclass(frozen=True, kw_only=True)
class ImpliedReward:
    """A loss of pairs on the rewards that a policy implies, beside its reference.

    Args:
        beta: Reward per nat: the larger, the less the policy has to move for a given margin.
    """

    unit: ClassVar[Unit] = "pair"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    beta: float = 0.1

    def __post_init__(self) -> None:
        require(0 < self.beta < inf, "beta", self.beta, must="be positive", cure="take the paper's, or 0.1")
