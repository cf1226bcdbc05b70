"""The two models of `bsr_four_shifts.py` and their variants."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import four_shifts_data as data
import numpy as np
import torch
from four_shifts_encoder import encode, minilm
from four_shifts_plan import Run
from torch import nn

from trueup.data.branches import BranchRow
from trueup.data.rows import Row
from trueup.models.checkpoints import init_head, new_reward_model, prepare_core
from trueup.models.reward import Branches, RewardModel, find_head
from trueup.models.tokenizers import load_tokenizer

WIDTH, LAYERS, HEADS = 64, 2, 2
LM_STEPS, LM_TOKENS = 600, 2048
SETTINGS = (WIDTH, LAYERS, HEADS, LM_STEPS, LM_TOKENS)


def shape(vocabulary: int) -> dict[str, Any]:
    """The small decoder: 0.37M weights, 0.1M of them outside the embedding."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 176,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def tokenizer_for(model: str, splits: Mapping[str, Sequence[Row]], cache: Path) -> Any:
    """Trained on the training text of the split, or the one that a pretrained trunk was trained with."""
    if model == "decoder":
        return data.byte_pairs(data.texts_of(splits["train"]))
    return load_tokenizer(data.minilm_folder() if model == "minilm" else language_model(cache))


def build(run: Run, tokenizer: Any, cache: Path) -> RewardModel:
    """The reward model before its first step; from-scratch weights come from torch's global generator."""
    generator = torch.Generator().manual_seed(run.seed)
    if run.model == "minilm":
        return minilm(run, tokenizer, generator)
    if run.model == "decoder-lm":
        model = new_reward_model(language_model(cache), tokenizer=tokenizer, generator=generator)
    else:
        model = scratch_decoder(tokenizer, generator)
    trunk = model.core.model
    if run.gains:
        trunk.norm.weight.data.copy_(torch.exp(run.gains * torch.randn(WIDTH, generator=generator)))
        trunk.norm.weight.requires_grad_(False)
    if run.head == "before":
        trunk.norm = nn.Identity()
    return model


def scratch_decoder(tokenizer: Any, generator: torch.Generator) -> RewardModel:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(**shape(len(tokenizer)), num_labels=1)
    core = LlamaForSequenceClassification(config)
    prepare_core(core, tokenizer)
    init_head(find_head(core), generator=generator)
    return RewardModel(core)


def forward(model: RewardModel, rows: Sequence[BranchRow], *, before_norm: bool = False) -> Branches:
    """Rewards of all branches, with hidden states."""
    return model(model.layout(rows), before_norm=before_norm) if model.causal else encode(model, rows)


def language_model(cache: Path) -> Path:
    """The same decoder trained on the plain text of the HH training files; made once and kept in the cache."""
    folder = cache / "language-model"
    if not folder.is_dir():
        train_language_model(folder)
    return folder


def train_language_model(folder: Path) -> None:
    """Next-token training on `LM_STEPS` windows of `LM_TOKENS` tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = [row for name in ("harmless", "helpful") for row in data.read(f"hh-rlhf-{name}/train.jsonl.gz")]
    texts = ["\n\n".join(data.texts_of([row])) for row in rows]
    tokenizer = data.byte_pairs(texts)
    stream = np.concatenate([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape(len(tokenizer)), tie_word_embeddings=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=LM_STEPS)
    order = np.random.default_rng(0)
    for _ in range(LM_STEPS):
        starts = order.integers(0, len(stream) - 256, LM_TOKENS // 256)
        ids = torch.from_numpy(np.stack([stream[start : start + 256] for start in starts]).astype(np.int64))
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    temporary = folder.with_name(f".{folder.name}-partial")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    (temporary / "loss.txt").write_text(f"{loss.item():.3f}\n")
    temporary.rename(folder)
