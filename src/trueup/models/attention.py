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
        query: Slots of the queries.
        keys: One or two runs of slots that they attend to.
        masks: Additive mask by sliding window (None for full attention), 0 where seen and -inf elsewhere.
    """

    query: slice
    keys: tuple[slice, ...]
    masks: Mapping[int | None, Tensor]

    def mask(self, window: int | None) -> Tensor:
        """Mask of a layer with this sliding window."""
        return self.masks[window if window in self.masks else None]


Trees = tuple[Block, ...]
"""Blocks that cover a packed row in order, shared by all layers."""


def tree_blocks(layout: Layout, *, dtype: torch.dtype, windows: Sequence[int] = ()) -> Trees:
    """Blocks of a packed layout: each tree whole, or in pieces where its branches are many or long."""
    device = layout.last.device
    blocks: list[Block] = []
    for start, *lengths in layout.trees:
        prompt, branches = lengths[0], lengths[1:]
        for query, keys, place in _pieces(prompt, branches):
            branch, position = place
            masks = {
                window: _additive(branch, position, query, keys, window=window, dtype=dtype).to(device)
                for window in (None, *windows)
            }
            moved = tuple(slice(start + a, start + b) for a, b in keys)
            blocks.append(Block(slice(start + query[0], start + query[1]), moved, masks))
    return tuple(blocks)


_Run = tuple[int, int]


def _pieces(prompt: int, branches: Sequence[int]) -> list[tuple[_Run, tuple[_Run, ...], tuple[Tensor, Tensor]]]:
    """Queries and keys of each piece of one tree, with branch and position of every slot."""
    sizes = torch.tensor([prompt, *branches])
    branch = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    ends = sizes.cumsum(0)
    position = torch.arange(int(ends[-1])) - (ends - sizes - prompt).clamp_min(0)[branch]
    total, place = int(ends[-1]), (branch, position)
    # The first branch goes on where the prompt stops, so the two are one ordinary causal sequence.
    first = prompt + branches[0]
    pieces: list[tuple[_Run, tuple[_Run, ...], tuple[Tensor, Tensor]]] = [((0, first), ((0, first),), place)]
    pairs, start = first**2, first
    for length in branches[1:]:
        own = (start, start + length)
        pieces.append((own, ((0, prompt), own) if prompt else (own,), place))
        pairs += length * (prompt + length)
        start += length
    if total**2 <= pairs + _CALL_COST * (len(pieces) - 1):
        return [((0, total), ((0, total),), place)]
    return pieces


def _additive(
    branch: Tensor, position: Tensor, query: _Run, keys: Sequence[_Run], *, window: int | None, dtype: torch.dtype
) -> Tensor:
    """The mask rule between the queries and keys of one piece."""
    slots = torch.arange(len(branch))
    q, k = slots[slice(*query)], torch.cat([slots[slice(*run)] for run in keys])
    seen = (q[:, None] >= k[None, :]) & ((branch[k] == 0)[None, :] | (branch[k][None, :] == branch[q][:, None]))
    if window is not None:
        seen &= position[q][:, None] - position[k][None, :] < window
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
    outputs = []
    for block in trees:
        q, mask = query[:, :, block.query], block.mask(sliding_window)
        k, v = (_gather(tensor, block.keys) for tensor in (key, value))
        if softcap is None:
            outputs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling))
        else:
            outputs.append(_soft_capped(q, k, v, mask, dropout=dropout, scaling=scaling, softcap=softcap))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


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
