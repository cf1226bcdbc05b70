"""Policies that jump back every so often: Elastic Reset, and the two simpler resets it is compared with."""

from dataclasses import dataclass
from typing import Literal

from trueup.anchors.base import AnchorState, Weights
from trueup.anchors.weights import copy_of, follow
from trueup.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class _Schedule:
    """When resets happen: after step `offset`, and every `period` steps from there.

    Args:
        period: Steps from one reset to the next.
        offset: Step after which the first reset comes; `period` where it is None.
    """

    period: int = 17
    offset: int | None = None

    def __post_init__(self) -> None:
        if self.period < 1:
            raise RecipeError(f"period must be at least 1 step, got {self.period}")
        if self.offset is not None and self.offset < 1:
            raise RecipeError(f"offset must be at least 1, as no reset comes before the first step, got {self.offset}")

    def due(self, step: int) -> bool:
        """Whether a reset comes after this step."""
        first = self.period if self.offset is None else self.offset
        return step >= first and (step - first) % self.period == 0


@dataclass(frozen=True, kw_only=True)
class _Averaged(_Schedule):
    decay: float = 0.995
    update_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1:
            raise RecipeError(f"decay must lie between 0 and 1, got {self.decay}")
        if self.update_every < 1:
            raise RecipeError(f"update_every must be at least 1 step, got {self.update_every}")

    def move(self, average: Weights, weights: Weights, *, step: int) -> None:
        """Update the average, in place, if it is time."""
        if step % self.update_every == 0:
            follow(average, weights, decay=self.decay)


@dataclass(frozen=True, kw_only=True)
class ElasticReset(_Averaged):
    """Every `period` steps the policy jumps to its moving average, and the average to the start.

    `average <- decay * average + (1 - decay) * policy` after every update; at a reset, after that step's update,
    `policy <- average`, then `average <- start`. How far a jump goes back is set by `decay` to the power of the updates
    in a period: a policy at rest at p has the average `p + decay^k (start - p)` after k of them.

    **Source**: Noukhovitch et al., "Language Model Alignment with Elastic Reset" (arXiv 2312.07551), section 3, and
    the loops in mnoukhov/RL4LMs (period 17, first reset after iteration 1) and mnoukhov/trl (260, first after 261).
    **Deviations**: averages are kept in float32 whatever the policy's type. With LoRA the two factors are averaged each
    on its own, as the source does, which is not the average of their product.
    **Limits**: `ResetToInit` at `decay = 1`; no change of the policy at the first reset at `decay = 0`.

    Args:
        period: Steps from one reset to the next.
        offset: Step after which the first reset comes; `period` where it is None.
        decay: Share of the average that each update keeps, in [0, 1].
        update_every: Steps from one update of the average to the next.
        kl_reference: What the KL is measured against: the start ("init") or the average, which is itself reset ("ema",
            as in the published IMDB runs).
    """

    kl_reference: Literal["init", "ema"] = "init"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl_reference not in ("init", "ema"):
            raise RecipeError(f"kl_reference must be init or ema, got {self.kl_reference!r}")

    def init(self, weights: Weights, /) -> AnchorState:
        """Average and start are the policy, each a copy of its own."""
        return AnchorState({"start": copy_of(weights), "average": copy_of(weights)})

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """Move the average; at a reset, give it away and begin a new one at the start."""
        start, average = state.copies["start"], state.copies["average"]
        self.move(average, weights, step=step)
        if not self.due(step):
            return state, None
        return AnchorState({"start": start, "average": copy_of(start)}), average

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The start, or the average."""
        return state.copies["average"] if self.kl_reference == "ema" else None


@dataclass(frozen=True, kw_only=True)
class ResetToAverage(_Averaged):
    """Every `period` steps the policy jumps to its moving average, which goes on from there.

    **Source**: the ablation "reset to EMA" of arXiv 2312.07551. **Deviations**: as of `ElasticReset`.

    Args:
        period: Steps from one reset to the next.
        offset: Step after which the first reset comes; `period` where it is None.
        decay: Share of the average that each update keeps, in [0, 1].
        update_every: Steps from one update of the average to the next.
    """

    def init(self, weights: Weights, /) -> AnchorState:
        """The average starts at the policy."""
        return AnchorState({"average": copy_of(weights)})

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """Move the average; at a reset the policy takes its values."""
        self.move(state.copies["average"], weights, step=step)
        return state, state.copies["average"] if self.due(step) else None

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The weights at the start."""
        return None


@dataclass(frozen=True, kw_only=True)
class ResetToInit(_Schedule):
    """Every `period` steps the policy jumps back to the start; no average is kept.

    **Source**: the ablation "reset to init" of arXiv 2312.07551. **Deviations**: none.

    Args:
        period: Steps from one reset to the next.
        offset: Step after which the first reset comes; `period` where it is None.
    """

    def init(self, weights: Weights, /) -> AnchorState:
        """A copy of the start."""
        return AnchorState({"start": copy_of(weights)})

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """At a reset the policy takes the values of the start."""
        return state, state.copies["start"] if self.due(step) else None

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The weights at the start."""
        return None
