"""Attention over branch layouts, plugged into transformers' attention interface.

Three ways to compute the same mask rule:

- `trees`: a packed row, attended tree by tree; no token slot is wasted and no mask is larger than one tree. Any device.
- `flex`: a packed row under a FlexAttention block mask; CUDA.
- `mask`: one tree a row under a boolean 4-D mask, for models whose attention does not go through the interface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trueup.models.branching import Layout

NAME = "trueup_trees"


# Splitting a tree into pieces saves attention between its branches, but each piece is a call of its own. In units of
# query-key pairs, as measured on CPU for 4 to 8 heads, with a backward pass and without.
_CALL_COST = {True: 20_000, False: 5_000}


@dataclass(frozen=True)
class Block:
    """Queries of one tree that attend together.

    Args:
        query: Slots of the queries within the tree; None for all that are given.
        keys: One or two runs of slots that they attend to; none for the whole tree.
        masks: Additive mask by sliding window (None for full attention), 0 where seen and -inf elsewhere.
    """

    query: slice | None
    keys: tuple[slice, ...]
    masks: Mapping[int | None, Tensor]

    def mask(self, window: int | None) -> Tensor:
        """Mask of a layer with this sliding window."""
        return self.masks[window if window in self.masks else None]


@dataclass(frozen=True)
class Trees:
    """A packed row, cut into trees and these into blocks; shared by all layers.

    Args:
        sizes: Slots of each tree, in order.
        blocks: Blocks of each tree, in the order of their queries.
        final: One block a tree for the last layer, whose queries are only the branches' last tokens; None to compute
            the last layer in full.
        last: Slots of the last tokens, in order.
        final_layer: Number of the last layer.
    """

    sizes: tuple[int, ...]
    blocks: tuple[tuple[Block, ...], ...]
    final: tuple[tuple[Block, ...], ...] | None = None
    last: Tensor | None = None
    final_layer: int = -1


def plan_trees(
    layout: Layout, *, dtype: torch.dtype, windows: Sequence[int] = (), final_layer: int | None = None
) -> Trees:
    """Blocks of a packed layout: each tree whole, or in pieces where its branches are many or long.

    Args:
        layout: A packed layout.
        dtype: Type of the masks.
        windows: Sliding windows in use.
        final_layer: Number of the last layer, where only last tokens are read; None to compute it in full.
    """
    device = layout.last.device
    blocks: list[tuple[Block, ...]] = []
    final: list[tuple[Block, ...]] = []
    for _, prompt, *branches in layout.trees:
        place = _place(prompt, branches)

        def masks(query: Tensor, keys: Sequence[_Run], place: _Place = place) -> dict[int | None, Tensor]:
            return {
                window: _additive(place, query, keys, window=window, dtype=dtype).to(device)
                for window in (None, *windows)
            }

        whole, pieces = ((0, prompt + sum(branches)),), _pieces(prompt, branches)
        if len(pieces) == 1:
            blocks.append((Block(None, (), masks(torch.arange(*pieces[0][0]), whole)),))
        else:
            blocks.append(
                tuple(
                    Block(slice(*run), tuple(slice(*k) for k in keys), masks(torch.arange(*run), keys))
                    for run, keys in pieces
                )
            )
        if final_layer is not None:
            ends = prompt + torch.tensor(branches).cumsum(0) - 1
            final.append((Block(None, (), masks(ends, whole)),))
    sizes = tuple(sum(lengths) for _, *lengths in layout.trees)
    if final_layer is None:
        return Trees(sizes, tuple(blocks))
    return Trees(sizes, tuple(blocks), tuple(final), layout.last, final_layer)


_Run = tuple[int, int]
_Place = tuple[Tensor, Tensor]
"""Branch and position of every slot of one tree."""


def _place(prompt: int, branches: Sequence[int]) -> _Place:
    sizes = torch.tensor([prompt, *branches])
    branch = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    starts = sizes.cumsum(0) - sizes
    return branch, torch.arange(len(branch)) - (starts - prompt).clamp_min(0)[branch]


def _pieces(prompt: int, branches: Sequence[int]) -> list[tuple[_Run, tuple[_Run, ...]]]:
    """Queries and keys of each piece of one tree."""
    total = prompt + sum(branches)
    # The first branch goes on where the prompt stops, so the two are one ordinary causal sequence.
    first = prompt + branches[0]
    pieces: list[tuple[_Run, tuple[_Run, ...]]] = [((0, first), ((0, first),))]
    pairs, start = first**2, first
    for length in branches[1:]:
        own = (start, start + length)
        pieces.append((own, ((0, prompt), own) if prompt else (own,)))
        pairs += length * (prompt + length)
        start += length
    if total**2 <= pairs + _CALL_COST[torch.is_grad_enabled()] * (len(pieces) - 1):
        return [((0, total), ((0, total),))]
    return pieces


def _additive(place: _Place, query: Tensor, keys: Sequence[_Run], *, window: int | None, dtype: torch.dtype) -> Tensor:
    """The mask rule between the queries and keys of one piece."""
    branch, position = place
    k = torch.cat([torch.arange(*run) for run in keys])
    seen = (query[:, None] >= k[None, :]) & ((branch[k] == 0)[None, :] | (branch[k][None, :] == branch[query][:, None]))
    if window is not None:
        seen &= position[query][:, None] - position[k][None, :] < window
    return torch.where(seen, torch.zeros((), dtype=dtype), float("-inf"))


def enable(config: Any) -> None:
    """Register tree attention with transformers and select it for a model's configuration.

    Calls without tree masks go to ordinary SDPA, so the model keeps working as before.
    """
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME


class Rule(NamedTuple):
    """How a layer turns queries and keys into logits of attention."""

    scaling: float
    softcap: float | None
    window: int | None


class _How(NamedTuple):
    """What a layer asks of its attention."""

    dropout: float
    scaling: float | None
    softcap: float | None
    window: int | None


def tree_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads s d"],
    key: Float[Tensor, "1 kv_heads s d"],
    value: Float[Tensor, "1 kv_heads s d"],
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    trees: Trees | None = None,
    decode: Any = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Float[Tensor, "1 s heads d"], None]:
    """Attend within each tree of a packed row; the signature is transformers' attention interface.

    With `decode` (a `trueup.models.decoding.DecodeCache`) the tokens are the next of many replies instead.
    """
    if decode is not None:
        rule = Rule(scaling or query.shape[-1] ** -0.5, softcap, sliding_window)
        return decode.attend(module.layer_idx, (query, key, value), rule), None
    if trees is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    how = _How(dropout, scaling, softcap, sliding_window)
    if trees.final is not None and trees.last is not None and getattr(module, "layer_idx", None) == trees.final_layer:
        at_last = _attend(query[:, :, trees.last], key, value, trees, trees.final, how)
        output = at_last.new_zeros(query.shape[:3] + at_last.shape[3:]).index_copy(2, trees.last, at_last)
    else:
        output = _attend(query, key, value, trees, trees.blocks, how)
    return output.transpose(1, 2), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: Trees,
    blocks: Sequence[Sequence[Block]],
    how: _How,
) -> Tensor:
    """Attention of the queries of each tree's blocks, which follow one another in `query`."""
    # Split once: the gradient of a slice is as large as what it was cut from.
    counts = [sum(len(block.mask(None)) for block in tree) for tree in blocks]
    queries = torch.split(query, counts, dim=2)
    sizes = list(trees.sizes)
    keys, values = torch.split(key, sizes, dim=2), torch.split(value, sizes, dim=2)
    outputs = []
    for q, k, v, tree in zip(queries, keys, values, blocks, strict=True):
        for block in tree:
            own = q if block.query is None else q[:, :, block.query]
            seen, held = _gather(k, block.keys), _gather(v, block.keys)
            outputs.append(_dot_product(own, seen, held, block.mask(how.window), how))
    return torch.cat(outputs, dim=2)


def _gather(tensor: Tensor, runs: Sequence[slice]) -> Tensor:
    if not runs:
        return tensor
    pieces = [tensor[:, :, run] for run in runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def _dot_product(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, how: _How) -> Tensor:
    if how.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=how.dropout, scale=how.scaling
        )
    # Logits squashed to (-softcap, softcap), which SDPA cannot do (Gemma 2)
    logits = query @ key.transpose(2, 3) * (how.scaling if how.scaling is not None else query.shape[-1] ** -0.5)
    capped = how.softcap * torch.tanh(logits / how.softcap) + mask
    return F.dropout(capped.softmax(-1, dtype=torch.float32).to(query.dtype), how.dropout) @ value


def block_mask(layout: Layout, *, window: int | None = None) -> Any:
    """The mask rule as a FlexAttention block mask."""
    from torch.nn.attention.flex_attention import create_block_mask

    tree, branch, position = layout.tree, layout.branch, layout.position_ids

    def rule(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (query >= key) & (tree[row, query] == tree[row, key])
        seen = seen & ((branch[row, key] == 0) | (branch[row, key] == branch[row, query]))
        if window is not None:
            seen = seen & (position[row, query] - position[row, key] < window)
        return seen | (query == key)

    rows, slots = layout.input_ids.shape
    return create_block_mask(rule, B=rows, H=None, Q_LEN=slots, KV_LEN=slots, device=str(layout.last.device))
