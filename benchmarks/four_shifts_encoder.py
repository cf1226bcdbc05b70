"""MiniLM in `bsr_four_shifts.py`: the frozen lower part is computed once per text, the rest at every step."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import four_shifts_data as data
import numpy as np
import torch
import torch.nn.functional as F
from four_shifts_plan import Run
from torch import Tensor, nn

from trueup.data.branches import BranchRow, join
from trueup.models.checkpoints import new_reward_model
from trueup.models.plan import cut
from trueup.models.reward import Branches, RewardModel

FROZEN = 5
SETTINGS = (FROZEN,)
TRAIN_SLOTS, SCORE_SLOTS = 1024, 4096


def minilm(run: Run, tokenizer: Any, generator: torch.Generator) -> RewardModel:
    """Embeddings and the lower layers stay as they are; the top layer, the pooler and the head are trained."""
    folder = data.minilm_folder()
    model = new_reward_model(folder, tokenizer=tokenizer, generator=generator)
    trunk = model.core.bert
    if run.head == "cls":
        trunk.pooler = FirstState()
    lower = Lower(trunk.embeddings, trunk.encoder.layer[:FROZEN])
    trunk.embeddings = StoredStates(lower, stored_states())
    trunk.encoder.layer = nn.ModuleList([FirstTokenLayer(trunk.encoder.layer[FROZEN])])
    return model


@lru_cache(maxsize=1)
def stored_states() -> dict[bytes, Tensor]:
    """States after the frozen layers by token ids; they are the same in every run of a process."""
    return {}


class FirstState(nn.Module):
    """In place of BERT's pooler: the first token's state, as the final normalisation leaves it."""

    def forward(self, states: Tensor) -> Tensor:
        return states[:, 0]


class FirstTokenLayer(nn.Module):
    """BERT's top layer for the one token that is read: the same value, at a sixth of the work."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        attend, first = self.layer.attention.self, states[:, :1]
        split = (*states.shape[:1], -1, attend.num_attention_heads, attend.attention_head_size)
        query, key, value = (
            project(read).view(split).transpose(1, 2)
            for project, read in ((attend.query, first), (attend.key, states), (attend.value, states))
        )
        seen = None if attention_mask is None else attention_mask[:, :, :1]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        out = self.layer.attention.output(mixed.transpose(1, 2).flatten(2), first)
        return self.layer.output(self.layer.intermediate(out), out)


class Lower(nn.Module):
    """Embeddings and the frozen layers of a BERT."""

    def __init__(self, embeddings: nn.Module, layers: nn.ModuleList) -> None:
        super().__init__()
        self.embeddings, self.layers = embeddings, layers
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        states = self.embeddings(input_ids=ids)
        seen = real[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        for layer in self.layers:
            states = layer(states, seen)
        return states


class StoredStates(nn.Module):
    """Stands in for BERT's embeddings: looks up each sequence's states, and computes those not seen before."""

    def __init__(self, lower: Lower, stored: dict[bytes, Tensor]) -> None:
        super().__init__()
        self.lower, self.stored = lower, stored

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        lengths = (input_ids != 0).sum(1).tolist()
        keys = [ids[:n].numpy().astype(np.int32).tobytes() for ids, n in zip(input_ids, lengths, strict=True)]
        if any(key not in self.stored for key in keys):
            # Tensors made under inference_mode could not enter a later training graph.
            with torch.inference_mode(False):
                states = self.lower(input_ids.clone(), input_ids.clone() != 0).to(torch.bfloat16)
            self.stored |= {key: one[:n].clone() for key, one, n in zip(keys, states, lengths, strict=True)}
        return nn.utils.rnn.pad_sequence([self.stored[key] for key in keys], batch_first=True).float()


def encode(model: RewardModel, rows: Sequence[BranchRow]) -> Branches:
    """Rewards of all branches, computed in length-sorted parts of single sequences, in bfloat16.

    All parts stay in one graph, so a training step is still one backward pass. `before_norm` is the norm of the first
    token's state before the last LayerNorm.
    """
    sequences = [join([sequence]) for row in rows for sequence in row.sequences()]
    slots = TRAIN_SLOTS if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else SCORE_SLOTS
    parts = cut(sequences, budget=slots, sharing="separate")
    results = [_part(model, [sequences[i] for i in part]) for part in parts]
    back = torch.from_numpy(np.argsort(np.concatenate([np.asarray(part) for part in parts])))
    reward, hidden, norms = (torch.cat(values)[back] for values in zip(*results, strict=True))
    return Branches(reward, hidden, norms)


def _part(model: RewardModel, sequences: Sequence[BranchRow]) -> tuple[Tensor, Tensor, Tensor]:
    norm = model.core.bert.encoder.layer[-1].layer.output.LayerNorm
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.autocast("cpu", torch.bfloat16):
            branches = model(model.layout(sequences))
    finally:
        handle.remove()
    return branches.reward, branches.hidden.float(), seen[0][:, 0].detach().float().norm(dim=-1)
