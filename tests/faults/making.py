"""Tiny models, tokenisers and preference data, made here so that faults are tried on real runs in no time."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = tuple(f"{start}{end}" for start in ("ba", "ke", "li", "mo", "nu", "ra", "so", "ti") for end in "bdfgklmn")
RARE = "zyzzyva"
"""A word with a token of its own that ordinary rows do not use."""


def make_tokenizer(folder: Path, *, words: tuple[str, ...] = WORDS) -> None:
    """Save a word-level tokeniser without a chat template."""
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    vocabulary = {word: i for i, word in enumerate([*special, *words, RARE, "User", "Assistant", ":"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)


def make_model(folder: Path, *, poisoned: bool = False) -> Path:
    """Save a causal model of two layers; a poisoned one has an infinite embedding for the rare word."""
    make_tokenizer(folder)
    torch.manual_seed(0)
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=3,
    )
    model = LlamaForCausalLM(config)
    if poisoned:
        model.get_input_embeddings().weight.data[4 + len(WORDS)] = float("inf")
    model.save_pretrained(folder)
    return folder


def make_records(count: int, *, seed: int = 0, longest: int = 24) -> list[dict[str, str]]:
    """Preferences of very different lengths."""
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(2, longest)))

    return [{"prompt": text(), "chosen": text(), "rejected": text()} for _ in range(count)]


def make_scored(count: int, *, sources: int = 6, seed: int = 0) -> list[dict[str, object]]:
    """Rows of several responses of named sources, each with a score."""
    draw = random.Random(seed)

    def response(source: int) -> dict[str, object]:
        text = " ".join(draw.choices(WORDS, k=8))
        return {"text": f"{text} {source}", "score": round(draw.gauss(source, 2), 3), "source": f"writer {source}"}

    return [{"prompt": f"{text_of(i)} ?", "responses": [response(s) for s in range(sources)]} for i in range(count)]


def text_of(number: int) -> str:
    """A prompt of its own for each number."""
    return f"{WORDS[number % len(WORDS)]} {WORDS[number // len(WORDS)]}"


def write_jsonl(path: Path, records: list[dict]) -> Path:
    """Write records, one a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
