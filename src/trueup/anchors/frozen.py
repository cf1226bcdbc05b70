"""The ordinary reference: the weights at the start of training."""

from dataclasses import dataclass

from trueup.anchors.base import AnchorState, Weights


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The policy is held to where it started; nothing is kept or moved, as the trainer has those weights.

    **Source**: Stiennon et al., "Learning to summarize from human feedback" (arXiv 2009.01325), section 3.4.
    **Deviations**: none.
    """

    def init(self, weights: Weights, /) -> AnchorState:
        """An empty state."""
        return AnchorState()

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """Nothing changes."""
        return state, None

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The weights at the start."""
        return None
