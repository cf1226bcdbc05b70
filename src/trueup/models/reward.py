"""A reward model: a transformers sequence classifier with one output, read at each branch's last token."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.models import attention, branching
from trueup.models.branching import Layout
from trueup.models.plan import FLEX_BLOCK
from trueup.models.sharing import Sharing, choose, describe, is_causal, windows_of
from trueup.models.trimming import can_trim, feed_forward_only_at

logger = logging.getLogger(__name__)

_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm")


@dataclass(frozen=True)
class Branches:
    """What a reward model says of each branch, in the order of the rows and their branches.

    Args:
        reward: Scalar reward, float32 or wider.
        hidden: Vector that enters the head (after the final normalisation, where the model has one).
        before_norm: Euclidean norm of that vector before the final normalisation; None unless asked for.
    """

    reward: Float[Tensor, " branches"]
    hidden: Float[Tensor, "branches d"]
    before_norm: Float[Tensor, " branches"] | None = None


class RewardModel(nn.Module):
    """Wraps a one-label sequence classifier so that a prompt is computed once for all its responses.

    Args:
        pretrained: An `AutoModelForSequenceClassification` with `num_labels=1`, or a PEFT model around one.
        sharing: How branches are computed; chosen from the model and device when None.
    """

    def __init__(self, pretrained: PreTrainedModel | PeftModel, *, sharing: Sharing | None = None) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.causal = is_causal(self.core)
        own = self.core.config.get_text_config()._attn_implementation
        self._own_attention = own if own != attention.NAME else ("sdpa" if self.core._supports_sdpa else "eager")
        self.settle(sharing)

    @property
    def core(self) -> PreTrainedModel:
        """The sequence classifier itself, without an adapter's wrapping."""
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

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, [1, d]."""
        return find_head(self.core)

    def settle(self, sharing: Sharing | None = None) -> None:
        """Choose how branches are computed where the weights are now; FlexAttention needs CUDA."""
        chosen, self.sharing_reason = choose(self.core, flex=self.device.type == "cuda")
        self.sharing: Sharing = sharing or chosen
        self.trim = self.sharing != "separate"  # what the self-check does not cover stays ordinary
        text = self.core.config.get_text_config()
        text._attn_implementation = self._own_attention
        if self.sharing == "trees":
            attention.enable(text)
        elif self.sharing == "flex":
            text._attn_implementation = "flex_attention"

    def share_nothing(self, reason: str) -> None:
        """Go over to the ordinary computation, in the attention that the model came with."""
        self.sharing, self.sharing_reason, self.trim = "separate", reason, False
        self.core.config.get_text_config()._attn_implementation = self._own_attention

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

    def forward(self, layout: Layout, *, before_norm: bool = False) -> Branches:
        """Rewards of all branches of a layout made by `self.layout`."""
        if not self.causal:
            return self._forward_encoder(layout)
        trunk = self.core.base_model
        trim = self.trim and can_trim(trunk)
        kwargs = self._mask_arguments(layout, trim=trim)
        at_last = feed_forward_only_at(trunk, layout.last) if trim else contextlib.nullcontext()
        with at_last, _captured(_final_norm(trunk) if before_norm else None) as seen:
            states = trunk(layout.input_ids, use_cache=False, **kwargs)[0]
        hidden = states.flatten(0, 1)[layout.last]
        norm = seen[0].flatten(0, 1)[layout.last].float().norm(dim=-1) if seen else None
        return Branches(self._read(hidden), hidden, norm)

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

    def _forward_encoder(self, layout: Layout) -> Branches:
        """Bidirectional models pool in their own way; what enters their last linear layer is recorded."""
        pad = self.core.config.get_text_config().pad_token_id or 0
        with _captured(self.head) as seen:
            self.core(input_ids=layout.input_ids.masked_fill(~layout.real, pad), attention_mask=layout.real.long())
        # Heads that are applied to every token are read by mask here too.
        hidden = seen[0].flatten(0, 1)[layout.last] if seen[0].dim() == 3 else seen[0]
        return Branches(self._read(hidden), hidden)

    def _read(self, hidden: Float[Tensor, "branches d"]) -> Float[Tensor, " branches"]:
        """Apply the head in float32 or wider: bfloat16 rewards of size 10 come in steps of 0.06."""
        head = self.head
        wide = torch.promote_types(hidden.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            bias = head.bias.to(wide) if head.bias is not None else None
            reward = hidden.to(wide) @ head.weight.to(wide)[0]
            return reward if bias is None else reward + bias


def _autocast(layout: Layout) -> bool:
    return torch.is_autocast_enabled(layout.last.device.type)


def find_head(core: nn.Module) -> nn.Linear:
    """The layer whose output is the reward: `score` of causal models, the last linear of `classifier` elsewhere."""
    head = getattr(core, "score", None) or getattr(core, "classifier", None)
    if head is not None and hasattr(head, "modules_to_save"):
        head = head.modules_to_save[head.active_adapter]
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)] if head is not None else []
    if not linears or linears[-1].out_features != 1:
        raise TypeError(f"{type(core).__name__} has no head with a single output")
    return linears[-1]


def _final_norm(trunk: nn.Module) -> nn.Module | None:
    """The trunk's last normalisation, if it has one under a known name."""
    places = [trunk, getattr(trunk, "decoder", None), getattr(trunk, "language_model", None)]
    found = (getattr(place, name, None) for place in places if place is not None for name in _NORMS)
    return next((module for module in found if isinstance(module, nn.Module)), None)


@contextlib.contextmanager
def _captured(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module while it runs."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def check_sharing(model: RewardModel, rows: Sequence[BranchRow]) -> float:
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


def _shares(model: RewardModel) -> bool:
    return model.sharing != "separate"


def _compare(model: RewardModel, rows: Sequence[BranchRow]) -> float:
    text = model.config.get_text_config()
    training = model.pretrained.training
    before = (model.sharing, model.sharing_reason, model.trim, text._attn_implementation)
    model.eval()
    try:
        shared, problem = model(model.layout(rows)).hidden, ""
    except Exception as error:  # another library's attention may fail in any way
        first = (str(error).splitlines() or [""])[0]
        shared, problem = None, f"its shared computation fails ({type(error).__name__}: {first})"
    model.share_nothing(problem)
    difference = float("inf")
    if shared is not None:
        ordinary = model(model.layout(rows)).hidden
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
