"""The last layer, computed only where it is read.

A reward depends on the final hidden state of each branch's last token alone. So in the last decoder layer only those
tokens need queries and a feed-forward pass; all others only lend their keys and values. Every other position of the
trunk's output is then meaningless, and nothing may read it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def decoder_layers(trunk: nn.Module) -> nn.ModuleList | None:
    """The trunk's layers, if it keeps them under a known name."""
    found = (getattr(trunk, name, None) for name in ("layers", "h"))
    return next((layers for layers in found if isinstance(layers, nn.ModuleList)), None)


def last_feed_forward(trunk: nn.Module) -> nn.Module | None:
    """The feed-forward of the trunk's last decoder layer, if it has one that works position by position."""
    layers = decoder_layers(trunk)
    if layers is None or not len(layers):
        return None
    mlp = getattr(layers[-1], "mlp", None)
    routes = any(hasattr(mlp, name) for name in ("experts", "gate", "router"))
    return mlp if isinstance(mlp, nn.Module) and not routes else None


def can_trim(trunk: nn.Module) -> bool:
    """Whether the last layer may be trimmed: recomputation in the backward pass would run without the trimming."""
    recomputed = getattr(trunk, "gradient_checkpointing", False) and trunk.training
    return not recomputed and last_feed_forward(trunk) is not None


@contextlib.contextmanager
def feed_forward_only_at(trunk: nn.Module, positions: Tensor, *, copies: int = 1) -> Iterator[None]:
    """Run the last layer's feed-forward at some flat positions of the grid; its output is zero elsewhere.

    Args:
        trunk: The model below the head.
        positions: Flat positions of the grid.
        copies: How many grids lie behind one another; the positions are those of each.
    """
    mlp = last_feed_forward(trunk)
    if mlp is None:
        yield
        return
    shape: list[tuple[int, ...]] = []

    def select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        shape.append(tuple(inputs[0].shape))
        return inputs[0].reshape(copies, -1, inputs[0].shape[-1])[:, positions], *inputs[1:]

    def spread(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        rows, slots, width = shape.pop()
        grid = output.new_zeros(copies, rows // copies * slots, width)
        return grid.index_copy(1, positions, output).view(rows, slots, width)

    handles = [mlp.register_forward_pre_hook(select), mlp.register_forward_hook(spread)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
