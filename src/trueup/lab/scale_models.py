"""Tiny models and tokenizers, made from nothing, for experiments in which an effect shows in minutes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

PAD, BOS, EOS = "<|pad|>", "<|start|>", "<|end|>"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of a Llama-shaped scale model.

    Args:
        vocabulary: Tokens of the byte-level BPE.
        width: Hidden size.
        layers: Decoder layers.
        heads: Attention heads.
        positions: Longest sequence in tokens.
    """

    vocabulary: int = 1500
    width: int = 128
    layers: int = 3
    heads: int = 4
    positions: int = 1024


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with pad, BOS and EOS tokens of its own and a plain chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, bos_token=BOS, eos_token=EOS)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_scale_model(folder: Path, texts: Iterable[str], *, shape: Shape) -> None:
    """Write a tokenizer trained on `texts` and a configuration, from which models are drawn with `from_scratch`."""
    write_model(folder, train_tokenizer(texts, vocabulary=shape.vocabulary), shape=shape)


def write_model(folder: Path, tokenizer: PreTrainedTokenizerFast, *, shape: Shape) -> None:
    """Write a tokenizer and the configuration of a model of a shape with its vocabulary."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=-(-shape.width * 8 // 3 // 32) * 32,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
