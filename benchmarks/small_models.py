"""Random Llama models with tokenizers of their own: what the benchmarks train."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SIZES = {
    "5m": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 5},
    "25m": {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6},
    "25m_32k": {"vocab_size": 2**15, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 7},
    "5m_32k": {"vocab_size": 2**15, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4},
}
_TIED = ("25m_32k", "5m_32k")
_SPECIAL = ["<pad>", "<s>", "</s>"]


def reward_model(folder: Path, size: str, texts: Iterable[str]) -> None:
    """A reward model whose tokenizer is trained on the texts."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(0)
    LlamaForSequenceClassification(_config(size, num_labels=1, problem_type="regression")).save_pretrained(folder)
    _tokenizer(size, texts).save_pretrained(folder)


def policy(folder: Path, size: str, texts: Iterable[str]) -> int:
    """A language model whose tokenizer is trained on the texts; returns the number of its parameters."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(_config(size))
    model.save_pretrained(folder)
    _tokenizer(size, texts).save_pretrained(folder)
    return int(model.num_parameters())


def _tokenizer(size: str, texts: Iterable[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=SIZES[size]["vocab_size"],
            special_tokens=_SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=2048
    )


def _config(size: str, **more: Any) -> Any:
    from transformers import LlamaConfig

    shape, heads = SIZES[size], SIZES[size]["hidden_size"] // 64
    return LlamaConfig(
        **shape,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=size in _TIED,
        **more,
    )
