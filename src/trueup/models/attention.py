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


@dataclass(frozen=True)
class TreeMasks:
    """Additive masks of a packed layout's trees, shared by all layers.

    Args:
        spans: (start, stop) of each tree in the packed row.
        full: One [tokens, tokens] mask a tree, 0 where seen and -inf elsewhere.
        windowed: The same under each sliding window in use.
    """

    spans: tuple[tuple[int, int], ...]
    full: tuple[Tensor, ...]
    windowed: Mapping[int, tuple[Tensor, ...]]

    def for_window(self, window: int | None) -> tuple[Tensor, ...]:
        """Masks of a layer with this sliding window (None for full attention)."""
        return self.full if window is None else self.windowed[window]


def tree_masks(layout: Layout, *, dtype: torch.dtype, windows: Sequence[int] = ()) -> TreeMasks:
    """Masks of every tree of a packed layout."""
    return TreeMasks(
        spans=layout.spans,
        full=_masks(layout, dtype=dtype, window=None),
        windowed={window: _masks(layout, dtype=dtype, window=window) for window in windows},
    )


def _masks(layout: Layout, *, dtype: torch.dtype, window: int | None) -> tuple[Tensor, ...]:
    result = []
    for start, stop in layout.spans:
        branch, position = layout.branch[0, start:stop], layout.position_ids[0, start:stop]
        seen = (branch[None, :] == 0) | (branch[None, :] == branch[:, None])
        seen = seen.tril()
        if window is not None:
            seen &= position[:, None] - position[None, :] < window
        zero = torch.zeros((), dtype=dtype, device=seen.device)
        result.append(torch.where(seen, zero, float("-inf")))
    return tuple(result)


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
    trees: TreeMasks | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Float[Tensor, "1 s heads d"], None]:
    """Attend within each tree of a packed row; the signature is transformers' attention interface."""
    if trees is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    sizes = [stop - start for start, stop in trees.spans]
    pieces = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    masks = trees.for_window(sliding_window if sliding_window in trees.windowed else None)
    attend = _soft_capped if softcap is not None else _plain
    outputs = [
        attend(q, k, v, mask, dropout=dropout, scaling=scaling, softcap=softcap)
        for (q, k, v), mask in zip(pieces, masks, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    dropout: float,
    scaling: float | None,
    softcap: None,
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)


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
