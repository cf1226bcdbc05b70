"""What reward models and policies have in common: one forward pass computes each prompt once for all its branches."""

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.models import attention, branching
from trueup.models.branching import Layout
from trueup.models.plan import FLEX_BLOCK
from trueup.models.sharing import Sharing, choose, describe, windows_of
from trueup.models.trimming import can_trim, feed_forward_only_at

logger = logging.getLogger(__name__)


class BranchModel(nn.Module, ABC):
    """Wraps a transformers model so that a prompt is computed once for all its responses.

    Args:
        pretrained: A model of transformers, or a PEFT model around one.
        causal: Whether each token sees only what comes before it.
        sharing: How branches are computed; chosen from the model and device when None.
    """

    reads_last_only = False
    """Whether nothing but each branch's last token is read, so that the last layer may be computed only there."""

    copies = 1
    """How often the upper layers compute each token slot, which is then what budgets count."""

    def __init__(
        self, pretrained: PreTrainedModel | PeftModel, *, causal: bool, sharing: Sharing | None = None
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.causal = causal
        own = self.core.config.get_text_config()._attn_implementation
        self.own_attention = own if own != attention.NAME else ("sdpa" if self.core._supports_sdpa else "eager")
        self.settle(sharing)

    @property
    def core(self) -> PreTrainedModel:
        """The transformers model itself, without an adapter's wrapping."""
        model = self.pretrained
        return model.get_base_model() if isinstance(model, PeftModel) else model

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.core.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.pretrained.parameters()).device

    def settle(self, sharing: Sharing | None = None) -> None:
        """Choose how branches are computed where the weights are now; FlexAttention needs CUDA."""
        chosen, self.sharing_reason = choose(self.core, flex=self.device.type == "cuda", causal=self.causal)
        self.sharing: Sharing = sharing or chosen
        # What the self-check does not cover stays ordinary.
        self.trim = self.reads_last_only and self.sharing != "separate"
        text = self.core.config.get_text_config()
        text._attn_implementation = self.own_attention
        if self.sharing == "trees":
            attention.enable(text)
        elif self.sharing == "flex":
            text._attn_implementation = "flex_attention"

    def share_nothing(self, reason: str) -> None:
        """Go over to the ordinary computation, in the attention that the model came with."""
        self.sharing, self.sharing_reason, self.trim = "separate", reason, False
        self.core.config.get_text_config()._attn_implementation = self.own_attention

    def describe_sharing(self) -> str:
        """One line that says how branches are computed, and why."""
        return describe(self.sharing, self.sharing_reason)

    def layout(self, rows: Sequence[BranchRow]) -> Layout:
        """Place rows for this model, on its device."""
        if self.sharing == "trees":
            layout = branching.packed(rows)
        elif self.sharing == "flex":
            layout = branching.packed(rows, multiple=FLEX_BLOCK)
        elif self.sharing == "mask":
            layout = branching.padded(rows)
        else:
            layout = branching.separate(rows)
        return layout.to(self.device)

    @abstractmethod
    def probe(self, rows: Sequence[BranchRow]) -> Tensor:
        """What the self-check compares between the shared and the ordinary computation."""

    def states(self, layout: Layout, *, inputs: Tensor | None = None) -> Tensor:
        """Hidden states of all slots, [slots, d]; where the model is trimmed, only last tokens' mean anything.

        Args:
            layout: Where the tokens are.
            inputs: What is read in the place of the tokens' embeddings, [rows, slots, d].
        """
        trunk = self.core.base_model
        trim = self.trim and can_trim(trunk)
        kwargs = self._mask_arguments(layout, trim=trim)
        with feed_forward_only_at(trunk, layout.last) if trim else contextlib.nullcontext():
            states: Tensor = trunk(**read_by(layout, inputs), use_cache=False, **kwargs)[0]
        return states.flatten(0, 1)

    def _mask_arguments(self, layout: Layout, *, trim: bool) -> dict[str, Any]:
        """Keyword arguments that make the trunk obey the layout's mask rule."""
        config = self.core.config.get_text_config()
        if self.sharing == "trees":
            dtype = torch.get_autocast_dtype(layout.last.device.type) if _autocast(layout) else self.core.dtype
            final = config.num_hidden_layers - 1 if trim else None
            trees = attention.plan_trees(layout, dtype=dtype, windows=windows_of(config), final_layer=final)
            # The 4-D placeholder keeps transformers from building a mask of its own.
            mask = layout.last.new_ones(1, 1, 1, 1, dtype=torch.bool)
            return {"position_ids": layout.position_ids, "attention_mask": mask, "trees": trees}
        if self.sharing == "separate":
            return {"attention_mask": layout.real.long()}
        return {"position_ids": layout.position_ids, "attention_mask": self._dense_mask(layout)}

    def _dense_mask(self, layout: Layout) -> Any:
        """A mask for each kind of layer that the trunk has."""
        config = self.core.config.get_text_config()
        build = attention.block_mask if self.sharing == "flex" else branching.visible
        full, windows = build(layout), windows_of(config)
        if not windows:
            return full
        sliding = build(layout, window=windows[0])
        types = getattr(config, "layer_types", None)
        if not types or set(types) == {"sliding_attention"}:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}


def read_by(layout: Layout, inputs: Tensor | None) -> dict[str, Tensor]:
    """What a transformers model is given to read: token ids, or embeddings in their place."""
    return {"input_ids": layout.input_ids} if inputs is None else {"inputs_embeds": inputs}


def _autocast(layout: Layout) -> bool:
    return torch.is_autocast_enabled(layout.last.device.type)


@torch.no_grad()
def check_sharing(model: BranchModel, rows: Sequence[BranchRow]) -> float:
    """Compare the shared computation with the ordinary one on real rows; fall back to the latter if they differ.

    Returns:
        Largest difference of a hidden value, relative to the largest (0 when nothing is shared, infinite when sharing
        fails outright).
    """
    if model.sharing == "separate" or not rows:
        return 0.0
    if model.sharing == "flex":
        difference = _compare(model, rows)
        if _shares(model):
            return difference
        model.settle("trees")  # the same sharing in ordinary kernels, before giving it up
    return _compare(model, rows)


def _shares(model: BranchModel) -> bool:
    return model.sharing != "separate"


def _compare(model: BranchModel, rows: Sequence[BranchRow]) -> float:
    text = model.config.get_text_config()
    training = model.pretrained.training
    before = (model.sharing, model.sharing_reason, model.trim, text._attn_implementation)
    model.eval()
    try:
        shared, problem = model.probe(rows), ""
    except Exception as error:  # another library's attention may fail in any way
        first = (str(error).splitlines() or [""])[0]
        shared, problem = None, f"its shared computation fails ({type(error).__name__}: {first})"
    model.share_nothing(problem)
    difference = float("inf")
    if shared is not None:
        ordinary = model.probe(rows)
        difference = float((shared - ordinary).abs().max() / ordinary.abs().max().clamp_min(1e-6))
        narrow = shared.dtype in (torch.float16, torch.bfloat16)
        if difference <= (5e-2 if narrow else 1e-3):
            model.sharing, model.sharing_reason, model.trim, text._attn_implementation = before
        else:
            model.sharing_reason = (
                f"its shared and ordinary computations differ by {difference:.1e} on two of your rows"
            )
    model.train(training)
    if model.sharing != before[0]:
        logger.warning(model.describe_sharing())
    return difference
