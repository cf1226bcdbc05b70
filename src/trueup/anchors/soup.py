"""A reference in the middle: the average of two models that were fine-tuned independently."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from trueup.anchors.base import AnchorState, Weights
from trueup.anchors.weights import live_weights
from trueup.errors import CheckpointError, RecipeError
from trueup.functional.params import lerp
from trueup.models.adapters import merge
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import load_policy_checkpoint


@torch.no_grad()
def soup(first: Weights, second: Weights, *, alpha: float) -> dict[str, Tensor]:
    """`alpha * first + (1 - alpha) * second`, tensor by tensor, summed in float32 and cast back to the first's type.

    Raises:
        CheckpointError: The second lacks a tensor, or it has another shape or other integers.
    """
    mixed = {}
    for name, tensor in first.items():
        if name not in second:
            raise CheckpointError(f"the second model has no weight `{name}`; a soup needs two models of one kind")
        other = second[name].to(tensor.device)
        try:
            mixed[name] = lerp(other, tensor, alpha).to(tensor.dtype, copy=True)
        except ValueError as error:
            raise CheckpointError(f"weight `{name}`: {error}; a soup needs two models from one base") from error
    return mixed


@dataclass(frozen=True, kw_only=True)
class Soup:
    """The KL is measured against `alpha * theta_1 + (1 - alpha) * theta_2`, which stays fixed.

    The policy starts at theta_1, one of two models that were fine-tuned independently from one base; so the KL is not
    zero at the first step, and is no measure of the distance from the start.

    **Source**: Chegini et al., "SALSA" (arXiv 2411.01798), the average of two SFT models as reference.
    **Deviations**: none. **Limits**: the frozen start at `alpha = 1`.

    Args:
        other: Directory or hub id of theta_2.
        alpha: Share of theta_1, where training starts; any finite number, 0.5 in the paper.
    """

    other: str | Path
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha):
            raise RecipeError(f"alpha must be finite, got {self.alpha}")

    def init(self, weights: Weights, /) -> AnchorState:
        """Load the other model and average.

        Raises:
            CheckpointError: The other model is missing, or of another kind.
            RecipeError: The policy is an adapter, whose two factors cannot be averaged one by one.
        """
        if any("lora_" in name for name in weights):
            raise RecipeError(
                "a soup of LoRA factors is another model than the soup of what they stand for; make a whole "
                "model of the adapter (trueup merge adapter) and train all its weights"
            )
        model = load_policy_checkpoint(self.other).model
        if isinstance(model.pretrained, PeftModel):
            model = PolicyModel(merge(model.pretrained).requires_grad_(True))
        return AnchorState({"soup": soup(weights, live_weights(model), alpha=self.alpha)})

    def update(self, state: AnchorState, weights: Weights, /, *, step: int) -> tuple[AnchorState, Weights | None]:
        """Nothing changes."""
        return state, None

    def reference(self, state: AnchorState, /) -> Weights | None:
        """The soup."""
        return state.copies["soup"]
