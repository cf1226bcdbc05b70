"""Keys and values while replies are drawn: each prompt's once for all its replies, and each reply's own.

Replies stand in a rectangle of prompts times replies. A prompt's keys are read once for all its replies and never
copied; replies that have ended leave the rectangle.
"""

import torch
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

    @property
    def positions(self) -> Int[Tensor, "b 1"]:
        """Position of every reply's next token."""
        return (self.lengths + self.drawn).repeat_interleave(self.count)[:, None]

    def attend(self, layer: int, states: QueryKeyValue, rule: Rule) -> Float[Tensor, "b s h d"]:
        """Attention of one layer; keeps the new keys and values."""
        query, key, value = states
        if self.drawn < 0:
            self._prompt[layer] = key, value
            return _causal(query, key, value, rule)
        return self._attend_replies(layer, query, (key, value), rule)

    def _attend_replies(
        self, layer: int, query: Tensor, new: tuple[Tensor, Tensor], rule: Rule
    ) -> Float[Tensor, "b 1 h d"]:
        prompts, count, now = len(self.lengths), self.count, self.drawn
        heads, kv, width = query.shape[1], new[0].shape[1], query.shape[3]
        groups = heads // kv
        keys, values = self._own(layer, new)
        keys[..., now, :] = new[0].view(prompts, count, kv, width)
        values[..., now, :] = new[1].view(prompts, count, kv, width)
        asked = query.view(prompts, count, kv, groups, width)
        before, held = self._prompt[layer]
        by_prompt = asked.permute(0, 2, 1, 3, 4).reshape(prompts, kv, count * groups, width)
        far = (by_prompt @ before.transpose(2, 3)).view(prompts, kv, count, groups, -1).permute(0, 2, 1, 3, 4)
        near = asked @ keys[..., : now + 1, :].transpose(3, 4)
        logits = torch.cat([far, near], dim=-1).float() * rule.scaling
        if rule.softcap is not None:
            logits = rule.softcap * torch.tanh(logits / rule.softcap)
        logits = logits.masked_fill(~self._seen(before.shape[2], rule.window)[:, None, None, None], float("-inf"))
        weight = logits.softmax(-1).to(query.dtype)
        w_far, w_near = weight[..., : before.shape[2]], weight[..., before.shape[2] :]
        own = w_near @ values[..., : now + 1, :]
        flat = w_far.permute(0, 2, 1, 3, 4).reshape(prompts, kv, count * groups, -1)
        shared = (flat @ held).view(prompts, kv, count, groups, width).permute(0, 2, 1, 3, 4)
        return (own + shared).reshape(prompts * count, 1, heads, width)

    def _own(self, layer: int, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if layer not in self._reply:
            kv, width = new[0].shape[1], new[0].shape[3]
            shape = (len(self.lengths), self.count, kv, self.room, width)
            self._reply[layer] = new[0].new_empty(shape), new[1].new_empty(shape)
        return self._reply[layer]

    def _seen(self, slots: int, window: int | None) -> Bool[Tensor, "prompts keys"]:
        """Which keys of prompt and reply the next token sees."""
        device = self.lengths.device
        far = torch.arange(slots, device=device)[None, :].expand(len(self.lengths), -1)
        near = self.lengths[:, None] + torch.arange(self.drawn + 1, device=device)
        seen = torch.cat([far < self.lengths[:, None], torch.ones_like(near, dtype=torch.bool)], dim=1)
        if window is not None:
            position = torch.cat([far, near], dim=1)
            seen &= (self.lengths + self.drawn)[:, None] - position < window
        return seen

    def keep(self, prompts: Int[Tensor, " kept"], replies: Int[Tensor, "kept count"]) -> None:
        """Go on with some prompts, and with as many replies of each."""
        self.lengths, self.count = self.lengths[prompts], replies.shape[1]
        self._prompt = {layer: (k[prompts], v[prompts]) for layer, (k, v) in self._prompt.items()}
        at, now = (prompts[:, None], replies), self.drawn + 1

        def shrink(tensor: Tensor) -> Tensor:
            smaller = tensor.new_empty((*replies.shape, *tensor.shape[2:]))
            smaller[..., :now, :] = tensor[..., :now, :][at]
            return smaller

        self._reply = {layer: (shrink(k), shrink(v)) for layer, (k, v) in self._reply.items()}


def _causal(query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Float[Tensor, "b s h d"]:
    """Ordinary causal attention of the prompts; what stands after a prompt's end is never read."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    slot = torch.arange(query.shape[2], device=query.device)
    seen = slot[:, None] >= slot
    if rule.window is not None:
        seen = seen & (slot[:, None] - slot < rule.window)
    logits = (query @ key.transpose(2, 3)).float() * rule.scaling
    if rule.softcap is not None:
        logits = rule.softcap * torch.tanh(logits / rule.softcap)
    weight = logits.masked_fill(~seen, float("-inf")).softmax(-1).to(query.dtype)
    return (weight @ value).transpose(1, 2)
