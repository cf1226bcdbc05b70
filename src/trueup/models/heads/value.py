"""The value head of a policy: what return it expects at each token. It is saved beside the policy, never within it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trueup.errors import CheckpointError
from trueup.files import atomic_write
from trueup.models.policy import PolicyModel

FILE = "value_head.safetensors"

_PREFIX = "value_head."


class ValueHead(nn.Linear):
    """V(s_t) = w h_t + b, float32 or wider, which is 0 everywhere at first.

    Args:
        width: Size of a hidden state.
        dtype: Type of the weights.
        device: Where they are.
    """

    def __init__(self, width: int, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(width, 1, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        """Start at zero, and draw nothing from the global generator."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, " t"]:
        """Value of each state."""
        # Returns are regressed on, for which bfloat16 is too coarse.
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.to(self.weight.dtype))[:, 0]


def with_value_head(model: PolicyModel) -> PolicyModel:
    """The same policy with a value head on the states that predict its tokens; one that it has already stays."""
    if model.value_head is None:
        model.value_head = _new_head(model)
    return model


def _new_head(model: PolicyModel) -> ValueHead:
    weight = model.core.get_output_embeddings().weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return ValueHead(weight.shape[1], dtype=dtype, device=model.device)


def without_value_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a policy alone, from all that it holds."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_PREFIX)}


def save_value_head(folder: str | Path, model: PolicyModel, *, state: Mapping[str, Tensor] | None = None) -> None:
    """Write the value head beside a policy's checkpoint; nothing where there is none.

    Args:
        folder: The checkpoint.
        model: The policy.
        state: All weights, where they were gathered from several devices; names as in the policy.
    """
    if model.value_head is None:
        return
    known = model.state_dict() if state is None else state
    own = {name.removeprefix(_PREFIX): tensor for name, tensor in known.items() if name.startswith(_PREFIX)}
    with atomic_write(Path(folder) / FILE) as handle:
        handle.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}))


def load_value_head(folder: str | Path, model: PolicyModel) -> PolicyModel:
    """The same policy with the value head that `save_value_head` wrote.

    Raises:
        CheckpointError: There is none, or it is damaged, or of a model of another width.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no {FILE}; save it with the policy, or start with a new value head")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is damaged ({error}); restore the file") from error
    head = _new_head(model)
    expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != expected:
        raise CheckpointError(f"{path}: holds {found}, but this policy needs {expected}; take the policy it belongs to")
    head.load_state_dict(state)
    model.value_head = head
    return model
