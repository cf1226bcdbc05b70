"""An ensemble of low-rank adapters on one frozen trunk, all members computed in one pass.

Below the lowest adapted layer every member computes the same, so that part runs once and needs no gradient. From there
on the members are rows of one batch: the frozen weights meet all of them in one product, and only the low-rank updates
differ. Equal to each member alone, as an ordinary PEFT adapter, to rounding.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.functional.gradients import scale_gradient
from trueup.models.branching import Layout
from trueup.models.heads.ensemble import with_heads
from trueup.models.reward import Branches, RewardModel
from trueup.models.sharing import Sharing
from trueup.models.trimming import can_trim, decoder_layers, feed_forward_only_at


class MemberLinear(nn.Module):
    """A frozen linear layer and each member's update of it: `W x + (alpha / r) B_i A_i x`.

    Args:
        base: The layer.
        members: Number of members.
        rank: Rank r of the updates.
        alpha: Scale of the updates.
    """

    def __init__(self, base: nn.Linear, *, members: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scaling = base, alpha / rank
        # Updates of a base in bfloat16 are learned in float32, as PEFT does it.
        wide = base.weight.new_empty(0, dtype=torch.promote_types(base.weight.dtype, torch.float32))
        self.down = nn.Parameter(wide.new_zeros(members, rank, base.in_features))
        self.up = nn.Parameter(wide.new_zeros(members, base.out_features, rank))

    def draw(self, generator: torch.Generator) -> None:
        """Draw A as PEFT does, uniformly in +-1/sqrt(d); B stays zero, so that members begin at the base."""
        bound = 1 / math.sqrt(self.down.shape[-1])
        with torch.no_grad():
            self.down.copy_((2 * torch.rand(self.down.shape, generator=generator) - 1) * bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply to a batch of `members * rows` rows, the first member's rows first."""
        members = len(self.down)
        pace = members if self.training else 1
        down, up = (scale_gradient(w, pace) if pace > 1 else w for w in (self.down, self.up))
        own = inputs.reshape(members, -1, inputs.shape[-1]).to(down.dtype)
        low = self.scaling * torch.bmm(own, down.transpose(1, 2))
        out: Tensor = self.base(inputs)
        # One kernel for product and sum: outputs of all members are large, and so would be what holds their update.
        whole = torch.baddbmm(out.reshape(members, -1, out.shape[-1]).to(low.dtype), low, up.transpose(1, 2))
        return whole.view(out.shape).to(out.dtype)


class LoraEnsemble(RewardModel):
    """A reward model whose members are adapters of the top layers, each with a head of its own.

    Args:
        pretrained: A classifier with one label a member, whose top layers hold `MemberLinear`s.
        members: Number of members.
        layers: Number of adapted layers, counted from the top.
        lora: What a member is, as PEFT describes it.
        sharing: How branches are computed; chosen from the model and device when None.
    """

    def __init__(
        self,
        pretrained: PreTrainedModel,
        *,
        members: int,
        layers: int,
        lora: LoraConfig,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(pretrained, sharing=sharing, members=members)
        self.layers, self.lora, self.copies = layers, lora, members

    def adapted(self) -> dict[str, MemberLinear]:
        """The adapted layers by their name in the transformers model."""
        return {name: module for name, module in self.core.named_modules() if isinstance(module, MemberLinear)}

    def probe(self, rows: Sequence[BranchRow]) -> Tensor:
        """Every member's vectors that enter its head."""
        hidden: Tensor = self(self.layout(rows)).member_hidden
        return hidden

    def forward(self, layout: Layout, *, before_norm: bool = False) -> Branches:
        """Rewards of all branches of a layout made by `self.layout`; norms are a single model's alone."""
        trunk = self.core.base_model
        trim = self.trim and can_trim(trunk)
        trimmed = feed_forward_only_at(trunk, layout.last, copies=self.members) if trim else contextlib.nullcontext()
        with trimmed, self._spread_out(rows=len(layout.input_ids)):
            states: Tensor = trunk(layout.input_ids, use_cache=False, **self._mask_arguments(layout, trim=trim))[0]
        hidden = states.reshape(self.members, -1, states.shape[-1])[:, layout.last]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            weight = self._own_pace(self.head.weight.to(wide))
            rewards = (hidden.to(wide) @ weight[:, :, None])[:, :, 0]
        return Branches(rewards.mean(0), hidden.mean(0), None, rewards, hidden)

    @contextlib.contextmanager
    def _spread_out(self, *, rows: int) -> Iterator[None]:
        """Repeat what the trunk computes for every member, from the lowest adapted layer on."""
        layers = decoder_layers(self.core.base_model)
        assert layers is not None
        tile = partial(_tiled, rows=rows, members=self.members)

        def spread(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], *, first: bool) -> Any:
            if first:
                hidden = inputs[0]
                hidden = hidden[None].expand(self.members, *hidden.shape).reshape(-1, *hidden.shape[1:])
                inputs = (hidden, *inputs[1:])
            return inputs, {name: tile(value) for name, value in named.items()}

        top = list(layers)[-self.layers :]
        handles = [
            layer.register_forward_pre_hook(partial(spread, first=layer is top[0]), with_kwargs=True) for layer in top
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _tiled(value: Any, *, rows: int, members: int) -> Any:
    """Masks and positions of each row for every member; those of a single row, or of all rows alike, broadcast."""
    if isinstance(value, tuple):
        return tuple(_tiled(entry, rows=rows, members=members) for entry in value)
    if rows == 1 or not isinstance(value, Tensor) or value.dim() < 2 or len(value) != rows:
        return value
    return value.repeat(members, *([1] * (value.dim() - 1)))


def with_lora_members(model: RewardModel, members: int, *, layers: int, generator: torch.Generator) -> LoraEnsemble:
    """Several adapters of a frozen model's top layers, each with a new head, in the place of one adapter and its head.

    The model itself is changed.

    Args:
        model: A reward model with an adapter, whose rank, scale and choice of linear layers the members take over.
        members: Number of members.
        layers: Number of adapted layers, counted from the top.
        generator: Source of the members' initial weights.

    Raises:
        RecipeError: The model has no such layers, or its adapter something that members cannot have.
    """
    if not isinstance(model.pretrained, PeftModel):
        raise RecipeError("members are adapters; take a model with one")
    lora = model.pretrained.peft_config[model.pretrained.active_adapter]
    names = _adapted_names(model, layers)
    if lora.lora_dropout:
        raise RecipeError(f"members share one pass, without dropout: lora.dropout must be 0, got {lora.lora_dropout}")
    member = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        target_modules=names,
        modules_to_save=["score"],
        base_model_name_or_path=lora.base_model_name_or_path,
        inference_mode=True,
    )
    core = model.pretrained.unload()
    return assemble(core, members, layers=layers, lora=member, generator=generator)


def assemble(
    core: PreTrainedModel, members: int, *, layers: int, lora: LoraConfig, generator: torch.Generator
) -> LoraEnsemble:
    """Freeze a classifier with one label and give it members; `lora` names each adapted layer in full."""
    core.requires_grad_(False)
    with_heads(RewardModel(core), members, generator=generator)
    for name in sorted(lora.target_modules):
        own = MemberLinear(core.get_submodule(name), members=members, rank=lora.r, alpha=lora.lora_alpha)
        own.draw(generator)
        core.set_submodule(name, own)
    return LoraEnsemble(core, members=members, layers=layers, lora=lora)


def _adapted_names(model: RewardModel, layers: int) -> list[str]:
    """Names of the linear layers that the adapter has among the top layers."""
    found = decoder_layers(model.core.base_model)
    depth = len(found) if found is not None and model.causal else 0
    if found is None or not 1 <= layers <= depth:
        raise RecipeError(f"cannot adapt the top {layers} layers of a causal model with {depth}; set ensemble.layers")
    top = {id(module) for layer in list(found)[-layers:] for module in layer.modules()}
    adapted = {name: module for name, module in model.core.named_modules() if isinstance(module, LoraLayer)}
    names = [
        name for name, module in adapted.items() if id(module) in top and isinstance(module.get_base_layer(), nn.Linear)
    ]
    if not names:
        raise RecipeError(f"the top {layers} layers hold no linear layer that lora.target_modules names")
    return names
