"""Keys and values while replies are drawn: each prompt's once for all its replies, and each reply's own.

Replies stand in a rectangle of prompts times replies. A prompt's keys are read once for all its replies and never
copied; replies that have ended leave the rectangle.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trueup.models.attention import Rule

QueryKeyValue = tuple[Float[Tensor, "b h s d"], Float[Tensor, "b kv s d"], Float[Tensor, "b kv s d"]]


class DecodeCache:
    """Keys and values of prompts and replies.

    Args:
        lengths: Tokens of each prompt, [prompts]; shorter prompts are padded on the right.
        count: Replies to each prompt.
        room: Most tokens of a reply.
    """

    def __init__(self, lengths: Int[Tensor, " prompts"], *, count: int, room: int) -> None:
        self.lengths, self.count, self.room = lengths, count, room
        self.drawn = -1
        """Reply tokens that have been fed before this pass; -1 while the prompts are read."""
        self._prompt: dict[int, tuple[Tensor, Tensor]] = {}
        self._reply: dict[int, tuple[Tensor, Tensor]] = {}
        self._masks: dict[int | None, tuple[int, Tensor | None, Tensor | None]] = {}

    @property
    def positions(self) -> Int[Tensor, "b 1"]:
        """Position of every reply's next token."""
        return (self.lengths + self.drawn).repeat_interleave(self.count)[:, None]

    def attend(self, layer: int, states: QueryKeyValue, rule: Rule) -> Float[Tensor, "b s h d"]:
        """Attention of one layer; keeps the new keys and values."""
        query, key, value = states
        if self.drawn < 0:
            # Contiguous, or every step would copy them first.
            self._prompt[layer] = key.contiguous(), value.contiguous()
            return _causal(query, key, value, rule)
        return self._attend_replies(layer, query, (key, value), rule)

    def _attend_replies(
        self, layer: int, query: Tensor, new: tuple[Tensor, Tensor], rule: Rule
    ) -> Float[Tensor, "b 1 h d"]:
        """Prompt keys as one product for all replies to a prompt, own keys as one for each reply."""
        prompts, count, kv, width = len(self.lengths), self.count, new[0].shape[1], query.shape[3]
        groups = query.shape[1] // kv
        keys, values = self._own(layer, new)
        before, held = (tensor.flatten(0, 1) for tensor in self._prompt[layer])
        asked = query.reshape(prompts, count, kv, groups, width).transpose(1, 2).contiguous()
        far_mask, near_mask = self._mask(before.shape[1], rule.window)
        far = _product(asked.view(prompts * kv, count * groups, width), before, rule.scaling)
        near = _product(asked.view(prompts * kv * count, groups, width), keys, rule.scaling)
        shape = (prompts, kv, count * groups)
        logits = _masked(far.view(*shape, -1), near.view(*shape, -1), (far_mask, near_mask), rule.softcap)
        weight = logits.softmax(-1).to(query.dtype)
        w_near = weight[..., before.shape[1] :].reshape(prompts * kv * count, groups, -1)
        own = torch.bmm(w_near, values).view(prompts * kv, count * groups, width)
        w_far = weight[..., : before.shape[1]].flatten(0, 1)
        output = torch.baddbmm(own, w_far, held).view(prompts, kv, count, groups, width)
        return output.transpose(1, 2).reshape(prompts * count, 1, kv * groups, width)

    def _own(self, layer: int, new: tuple[Tensor, Tensor]) -> tuple[Float[Tensor, "r s d"], Float[Tensor, "r s d"]]:
        """Keys and values of the replies so far, the new ones among them."""
        prompts, count, now = len(self.lengths), self.count, self.drawn
        kv, width = new[0].shape[1], new[0].shape[3]
        if layer not in self._reply:
            shape = (prompts, kv, count, self.room, width)
            self._reply[layer] = new[0].new_empty(shape), new[1].new_empty(shape)
        kept = self._reply[layer]
        for own, one in zip(kept, new, strict=True):
            own[..., now, :] = one.reshape(prompts, count, kv, width).transpose(1, 2)
        keys, values = (own[..., : now + 1, :].flatten(0, 2) for own in kept)
        return keys, values

    def _mask(self, slots: int, window: int | None) -> tuple[Tensor | None, Tensor | None]:
        """Which keys of prompt and reply the next token does not see, made once a step; None where it sees all."""
        # Without a window, every step of a rectangle sees the same keys of its prompts.
        step = self.drawn if window is not None else 0
        known = self._masks.get(window)
        if known is None or known[0] != step:
            known = self._masks[window] = step, *self._hidden(slots, window)
        return known[1:]

    def _hidden(self, slots: int, window: int | None) -> tuple[Bool[Tensor, "prompts 1 1 keys"] | None, Tensor | None]:
        slot = torch.arange(slots, device=self.lengths.device)
        far = slot >= self.lengths[:, None]
        if window is None:
            return (far[:, None, None] if bool(far.any()) else None), None
        far = far | ((self.lengths + self.drawn)[:, None] - slot >= window)
        age = self.drawn - torch.arange(self.drawn + 1, device=self.lengths.device)
        return far[:, None, None], (age >= window)

    def keep(self, prompts: Int[Tensor, " kept"], replies: Int[Tensor, "kept count"]) -> None:
        """Go on with some prompts, and with as many replies of each."""
        self.lengths, self.count = self.lengths[prompts], replies.shape[1]
        self._masks.clear()
        if len(prompts) < len(next(iter(self._prompt.values()))[0]):
            self._prompt = {layer: (k[prompts], v[prompts]) for layer, (k, v) in self._prompt.items()}
        now = self.drawn + 1

        def shrink(tensor: Tensor) -> Tensor:
            kept = tensor[..., :now, :].transpose(1, 2)[prompts[:, None], replies].transpose(1, 2)
            smaller = tensor.new_empty((*kept.shape[:3], *tensor.shape[3:]))
            smaller[..., :now, :] = kept
            return smaller

        self._reply = {layer: (shrink(k), shrink(v)) for layer, (k, v) in self._reply.items()}


def _product(query: Float[Tensor, "n q d"], key: Float[Tensor, "n k d"], scaling: float) -> Float[Tensor, "n q k"]:
    """Scaled products, in one pass over the result."""
    return torch.baddbmm(query.new_zeros(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scaling)


def _masked(
    far: Tensor, near: Tensor, masks: tuple[Tensor | None, Tensor | None], softcap: float | None
) -> Float[Tensor, "prompts kv q keys"]:
    """Logits of attention to prompt and reply, float32 or wider, with what is not seen at minus infinity."""
    wide = torch.promote_types(far.dtype, torch.float32)
    parts = [part.to(wide) for part in (far, near)]
    if softcap is not None:
        parts = [softcap * torch.tanh(part / softcap) for part in parts]
    for part, mask in zip(parts, masks, strict=True):
        if mask is not None:
            part.masked_fill_(mask, float("-inf"))
    return torch.cat(parts, dim=-1)


def _causal(query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Float[Tensor, "b s h d"]:
    """Ordinary causal attention of the prompts; what stands after a prompt's end is never read."""
    slot = torch.arange(query.shape[2], device=query.device)
    seen = slot[:, None] >= slot
    if rule.window is not None:
        seen = seen & (slot[:, None] - slot < rule.window)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    if rule.softcap is None:
        mask = None if rule.window is None else seen
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=rule.scaling
        )
        return output.transpose(1, 2)
    logits = (query @ key.transpose(2, 3)).float() * rule.scaling
    logits = rule.softcap * torch.tanh(logits / rule.softcap)
    weight = logits.masked_fill(~seen, float("-inf")).softmax(-1).to(query.dtype)
    return (weight @ value).transpose(1, 2)
