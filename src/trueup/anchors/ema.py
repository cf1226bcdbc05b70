"""The policy's own moving average as what it is held to."""

from dataclasses import dataclass

from trueup.anchors.base import AnchorState, Weights
from trueup.anchors.weights import copy_of, follow
from trueup.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ExponentialAverage:
    """`average <- decay * average + (1 - decay) * policy` after every step; the KL is measured against the average.

    With the policy constant at p the average is `p + decay^k (start - p)` after k updates.

    **Source**: Ramé et al., "WARP" (arXiv 2406.16768), stage 1; its rate mu is `1 - decay`.
    **Deviations**: averages are kept in float32 whatever the policy's type.
    **Limits**: the frozen start at `decay = 1`; the policy as it was after the last step at `decay = 0`.

    Args:
        decay: Share of the average that each update keeps, in [0, 1].
        update_every: Steps from one update to the next.
    """

    decay: float = 0.99
    update_every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise RecipeError(f"decay must lie between 0 and 1, got {self.decay}")
        if self.update_every < 1:
            raise RecipeError(f"update_every must be at least 1 step, got {self.update_every}")

    def init(self, weights: Weights, /) -> AnchorState:
        """The average starts at the policy."""
        return AnchorState({"average": copy_of(weights)})

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """Move the average, in place."""
        if step % self.update_every == 0:
            follow(state.copies["average"], weights, decay=self.decay)
        return state, None

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The average."""
        return state.copies["average"]
