"""Attention over branch layouts, plugged into transformers' attention interface.

Three ways to compute the same mask rule:

- `trees`: a packed row, attended tree by tree; no token slot is wasted and no mask is larger than one tree. Any device.
- `flex`: a packed row under a FlexAttention block mask; CUDA.
- `mask`: one tree a row under a boolean 4-D mask, for models whose attention does not go through the interface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
# query-key pairs, as measured on CPU for 4 to 8 heads.
_CALL_COST = 40_000


@dataclass(frozen=True)
class Block:
    """Queries of a packed row that attend together.

    Args:
        query: Slots of the queries, from the first to the last.
        keys: One or two runs of slots that they attend to.
        masks: Additive mask by sliding window (None for full attention), 0 where seen and -inf elsewhere.
    """

    query: slice
    keys: tuple[slice, ...]
    masks: Mapping[int | None, Tensor]

    def mask(self, window: int | None) -> Tensor:
        """Mask of a layer with this sliding window."""
        return self.masks[window if window in self.masks else None]


@dataclass(frozen=True)
class Trees:
    """A packed row, cut into blocks that all layers share.

    Args:
        blocks: Blocks that cover the row in order.
        final: One block a tree for the last layer, whose queries are only the branches' last tokens; None to compute
            the last layer in full.
        last: Slots of the last tokens, in order.
        final_layer: Number of the last layer.
    """

    blocks: tuple[Block, ...]
    final: tuple[Block, ...] | None = None
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
    blocks: list[Block] = []
    final: list[Block] = []
    for start, prompt, *branches in layout.trees:
        place = _place(prompt, branches)

        def block(query: Tensor, keys: tuple[_Run, ...], start: int = start, place: _Place = place) -> Block:
            masks = {
                window: _additive(place, query, keys, window=window, dtype=dtype).to(device)
                for window in (None, *windows)
            }
            moved = tuple(slice(start + a, start + b) for a, b in keys)
            return Block(slice(start + int(query[0]), start + int(query[-1]) + 1), moved, masks)

        blocks += [block(torch.arange(*run), keys) for run, keys in _pieces(prompt, branches)]
        if final_layer is not None:
            ends = prompt + torch.tensor(branches).cumsum(0) - 1
            final.append(block(ends, ((0, prompt + sum(branches)),)))
    if final_layer is None:
        return Trees(tuple(blocks))
    return Trees(tuple(blocks), tuple(final), layout.last, final_layer)


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
    if total**2 <= pairs + _CALL_COST * (len(pieces) - 1):
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


def tree_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads s d"],
    key: Float[Tensor, "1 kv_heads s d"],
    value: Float[Tensor, "1 kv_heads s d"],
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    trees: Trees | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Float[Tensor, "1 s heads d"], None]:
    """Attend within each tree of a packed row; the signature is transformers' attention interface."""
    if trees is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    settings = {"dropout": dropout, "scaling": scaling, "softcap": softcap, "window": sliding_window}
    if trees.final is not None and trees.last is not None and getattr(module, "layer_idx", None) == trees.final_layer:
        at_last = _attend(query[:, :, trees.last], key, value, trees.final, **settings)
        output = at_last.new_zeros(query.shape[:3] + at_last.shape[3:]).index_copy(2, trees.last, at_last)
    else:
        output = _attend(query, key, value, trees.blocks, **settings)
    return output.transpose(1, 2), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: Sequence[Block],
    *,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """Attention of each block's queries, which follow one another in `query`."""
    outputs, start = [], 0
    for block in blocks:
        mask = block.mask(window)
        q = query[:, :, start : start + len(mask)]
        start += len(mask)
        k, v = (_gather(tensor, block.keys) for tensor in (key, value))
        if softcap is None:
            outputs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling))
        else:
            outputs.append(_soft_capped(q, k, v, mask, dropout=dropout, scaling=scaling, softcap=softcap))
    return torch.cat(outputs, dim=2)


def _gather(tensor: Tensor, runs: Sequence[slice]) -> Tensor:
    pieces = [tensor[:, :, run] for run in runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def _soft_capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    dropout: float,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    """Attention with logits squashed to (-softcap, softcap), which SDPA cannot do (Gemma 2)."""
    logits = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    weights = (softcap * torch.tanh(logits / softcap) + mask).softmax(-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout) @ value


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
