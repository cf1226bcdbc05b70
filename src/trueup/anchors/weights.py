"""The weights of a live model that anchors watch: read in place, averaged in float32, written without moving them.

They are the parameters that are trained (of a model with LoRA: the adapter's alone) and the buffers that checkpoints
hold, under the names of the transformers or PEFT model itself, whatever wraps it. Value heads are no part of a policy.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

from trueup.errors import CheckpointError, RecipeError
from trueup.functional.params import ema
from trueup.models.branch_model import BranchModel

VALUE_HEADS = frozenset({"value_head", "v_head"})
"""Parts of a name that mark a value head of ours or of TRL's."""


def unwrap(model: nn.Module) -> nn.Module:
    """The transformers or PEFT model within our own, a compiled or a distributed one."""
    while True:
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            model = model.module
        elif isinstance(model, BranchModel):
            model = model.pretrained
        elif hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        else:
            return model


def watched(model: nn.Module) -> dict[str, Tensor]:
    """The live tensors themselves, parameters as `nn.Parameter`.

    Raises:
        RecipeError: Nothing is trained, or devices hold shards of the weights.
    """
    inner = unwrap(model)
    found: dict[str, Tensor] = {name: own for name, own in inner.named_parameters() if own.requires_grad}
    if not isinstance(inner, PeftModel):
        saved = inner.state_dict().keys()
        found |= {name: own for name, own in inner.named_buffers() if name in saved}
    found = {name: own for name, own in found.items() if VALUE_HEADS.isdisjoint(name.split("."))}
    if not any(isinstance(own, nn.Parameter) for own in found.values()):
        raise RecipeError("an anchor needs a model that is trained, but no parameter of this one requires a gradient")
    if isinstance(inner, FullyShardedDataParallel) or any(map(_is_shard, found.values())):
        raise RecipeError("an anchor needs whole weights, but devices hold shards; train without FSDP or ZeRO-3")
    return found


def _is_shard(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor) or hasattr(tensor, "ds_id")


def live_weights(model: nn.Module) -> dict[str, Tensor]:
    """Views of a live model's weights, without gradient; they change as the model does."""
    return {name: tensor.detach() for name, tensor in watched(model).items()}


def copy_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies with storage of their own, float32 or wider where they are floating."""
    return {name: tensor.detach().to(wide(tensor), copy=True) for name, tensor in weights.items()}


def wide(tensor: Tensor) -> torch.dtype:
    """The type in which a tensor is averaged: half precision loses the small steps of a slow average."""
    return torch.promote_types(tensor.dtype, torch.float32) if tensor.is_floating_point() else tensor.dtype


@torch.no_grad()
def follow(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, decay: float) -> None:
    """`average <- decay * average + (1 - decay) * weights`, in place; integers take the newest value."""
    for name, own in average.items():
        new = weights[name]
        own.copy_(ema(own, new.to(own.dtype), decay=decay) if own.is_floating_point() else new)


@torch.no_grad()
def write(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model, in its own type; parameters stay the objects that an optimiser knows.

    Raises:
        CheckpointError: The model lacks a tensor of that name and shape.
    """
    for place, tensor in _matched(model, weights):
        place.copy_(tensor)


@contextmanager
def swapped(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a live model compute with other weights, without gradients, and give it its own back untouched.

    Nothing is copied where type and device agree; the model must not be trained, saved or written to inside.

    Raises:
        CheckpointError: The model lacks a tensor of that name and shape.
    """
    pairs = _matched(model, weights)
    own = [place.data for place, _ in pairs]
    try:
        for place, tensor in pairs:
            place.data = tensor.detach().to(dtype=place.dtype, device=place.device)
        with torch.no_grad():
            yield
    finally:
        for (place, _), before in zip(pairs, own, strict=True):
            place.data = before


def _matched(model: nn.Module, weights: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    inner = unwrap(model)
    places: dict[str, Tensor] = dict(inner.named_parameters()) | dict(inner.named_buffers())
    for name, tensor in weights.items():
        if name not in places:
            raise CheckpointError(
                f"the model has no weight `{name}`, which its anchor holds; give one of the same kind"
            )
        if places[name].shape != tensor.shape:
            shapes = f"{tuple(places[name].shape)} in the model, {tuple(tensor.shape)} in its anchor"
            raise CheckpointError(f"weight `{name}` has the shape {shapes}; give a model of the same size")
    return [(places[name], tensor) for name, tensor in weights.items()]
