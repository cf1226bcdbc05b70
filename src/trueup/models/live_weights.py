"""The weights of a policy that is being trained, as another program would read them from its checkpoint."""

from collections.abc import Iterator

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.core_model_loading import revert_weight_conversion

from trueup.errors import RecipeError
from trueup.models.policy import PolicyModel


@torch.no_grad()
def checkpoint_weights(model: PolicyModel) -> Iterator[tuple[str, Tensor]]:
    """Names and values of all weights, an adapter worked in, without changing the model.

    Weights that are tied come once. Some architectures hold weights otherwise than their checkpoints do (experts of a
    mixture in one tensor); these are taken apart again.

    Raises:
        RecipeError: Devices hold shards of the weights.
    """
    core = model.core
    plain = dict(_plain(core))
    if any(isinstance(value, DTensor) or hasattr(value, "ds_id") for value in plain.values()):
        raise RecipeError("a rollout engine needs whole weights, but devices hold shards; train without FSDP or ZeRO-3")
    layers = {name: part for name, part in core.named_modules() if isinstance(part, BaseTunerLayer)}
    reverted = revert_weight_conversion(core, dict(plain))
    if reverted.keys() == plain.keys():
        for name, value in plain.items():
            yield name, _with_adapter(layers.get(name.removesuffix(".weight")), value)
    else:
        whole = {name: _with_adapter(layers.get(name.removesuffix(".weight")), value) for name, value in plain.items()}
        yield from revert_weight_conversion(core, whole).items()


def _plain(core: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names that they have without PEFT's wrapping, and without the adapters themselves."""
    wrapped = {name: part for name, part in core.named_modules() if isinstance(part, BaseTunerLayer)}
    copied = {name: part for name, part in core.named_modules() if isinstance(part, ModulesToSaveWrapper)}
    saved = core.state_dict().keys() - dict(core.named_parameters(remove_duplicate=False)).keys()
    buffers = ((name, own) for name, own in core.named_buffers() if name in saved)
    for name, own in [*core.named_parameters(), *buffers]:
        holder = next((one for one in (*wrapped, *copied) if name.startswith(f"{one}.")), None)
        if holder is None:
            yield name, own.detach()
            continue
        rest = name.removeprefix(f"{holder}.")
        active = f"modules_to_save.{copied[holder].active_adapters[0]}." if holder in copied else "base_layer."
        if rest.startswith(active):
            yield f"{holder}.{rest.removeprefix(active)}", own.detach()


def _with_adapter(layer: BaseTunerLayer | None, value: Tensor) -> Tensor:
    """A layer's weight with the change that its adapters make."""
    if layer is None or layer.merged:
        return value
    names = [name for name in layer.active_adapters if name in layer.lora_A or name in layer.lora_embedding_A]
    return value + sum(layer.get_delta_weight(name) for name in names) if names else value
