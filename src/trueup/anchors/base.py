"""What a policy is held to while it is trained: settings in a frozen record, weights in a state of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

Weights = Mapping[str, Tensor]
"""Tensors by the names that the transformers model gives them (see `trueup.anchors.weights`)."""


@dataclass(frozen=True)
class AnchorState:
    """The weights that an anchor keeps beside the live model, float32 or wider where they are averages.

    Args:
        copies: By role ("start", "average", "soup"): tensors of their own, which share no storage with the live model
            or with one another.
    """

    copies: Mapping[str, Weights] = field(default_factory=dict)

    def to_tensors(self) -> dict[str, Tensor]:
        """All tensors in one mapping, `role/name`, as safetensors holds them."""
        return {f"{role}/{name}": tensor for role, own in self.copies.items() for name, tensor in own.items()}

    @classmethod
    def from_tensors(cls, tensors: Weights) -> "AnchorState":
        """The state that `to_tensors` made these of."""
        copies: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            role, _, name = key.partition("/")
            copies.setdefault(role, {})[name] = tensor
        return cls(copies)


@runtime_checkable
class Anchor(Protocol):
    """A rule that keeps weights beside a live model. It never changes the live model itself."""

    def init(self, weights: Weights, /) -> AnchorState:
        """The state at the start of training, copied from the live weights."""
        ...

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """The state after an optimiser step, and weights to be copied into the live model, if it is to jump.

        Averages are updated in place, so the given state is used up; the jump is to be copied before the next update.

        Args:
            state: What `init` or the last update returned.
            weights: The live model's, which are only read.
            step: Steps done, from 1.
        """
        ...

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The weights that the KL is measured against; None stands for those at the start, which never move."""
        ...
