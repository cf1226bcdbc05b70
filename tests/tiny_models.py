"""Random models and small tokenizers, made here, for tests that save and load."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from trueup.data.templates import TextFormat, infer_format
from trueup.models.checkpoints import Checkpoint, load_reward_model, new_reward_model, save_reward_model
from trueup.models.tokenizers import load_tokenizer

CORPUS = [
    "What is the capital of France? Paris is the capital of France.",
    "Name three fruits. Apples, pears and plums are three fruits.",
    "How do I boil an egg? Put it into boiling water for seven minutes.",
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)
LLAMA_LIKE = (
    "{{ bos_token }}{% for message in messages %}<|role|>{{ message['role'] }}: {{ message['content'] }}<|eot_id|>"
    "{% endfor %}"
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
FAMILIES = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "mistral": GROUPED | {"sliding_window": 11},
    "gemma": GROUPED | {"head_dim": 8},
    "gemma2": GROUPED | {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "gemma3_text": GROUPED | {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "phi3": GROUPED | {"sliding_window": None, "pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "gpt_neox": SIZES,
}
ENCODERS = {
    "bert": SIZES,
    "roberta": SIZES | {"max_position_embeddings": 514},
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "initializer_range": 0.2},
    "modernbert": SIZES
    | {"global_attn_every_n_layers": 2, "local_attention": 8, "initializer_cutoff_factor": 2.0}
    | dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
}


def make_tokenizer(
    *,
    bos: str | None = None,
    eos: str | None = "</s>",
    pad: str | None = None,
    encoder: bool = False,
    extra: tuple[str, ...] = (),
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; with `bos` it puts that before any text, as an encoder it adds CLS and SEP."""
    named = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    if encoder:
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    named = {name: token for name, token in named.items() if token}
    special = list(dict.fromkeys([*named.values(), *extra]))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    around = ["[CLS]", "$A", "[SEP]"] if encoder else [bos, "$A"] if bos else []
    if around:
        ids = [(token, backend.token_to_id(token)) for token in around if token != "$A"]
        backend.post_processor = processors.TemplateProcessing(single=" ".join(around), special_tokens=ids)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=[t for t in extra if t not in named.values()], **named
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def save_base(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    family: str = "llama",
    kind: type = AutoModelForCausalLM,
    **changes: object,
) -> Path:
    """A random base model with its tokenizer on disk."""
    torch.manual_seed(0)
    settings = (FAMILIES | ENCODERS)[family] | {"vocab_size": len(tokenizer)} | changes
    settings = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id} | settings
    config = AutoConfig.for_model(family, **settings)
    model = kind.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path, tokenizer: PreTrainedTokenizerFast, family: str) -> Path:
    """A random encoder with its tokenizer on disk."""
    return save_base(folder, tokenizer, family, AutoModelForMaskedLM)


def save_classifier(folder: Path, tokenizer: PreTrainedTokenizerFast, family: str = "llama", **changes: object) -> Path:
    """A random sequence classifier, as another library would have saved it."""
    return save_base(folder, tokenizer, family, AutoModelForSequenceClassification, **{"num_labels": 1} | changes)


def make_checkpoint(
    base: Path,
    folder: Path,
    *,
    kind: str = "auto",
    max_length: int | None = 64,
    lora: object = None,
    side: str = "left",
) -> Path:
    """A reward model of ours from a base, untrained, as `trueup train reward` saves it."""
    tokenizer = load_tokenizer(base)
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(1), lora=lora)
    form = infer_format((), tokenizer, max_length=max_length, truncation_side=side, kind=kind)
    save_reward_model(folder, model, tokenizer=tokenizer, form=form, provenance={"seed": 1})
    return folder


def loaded(base: Path, folder: Path, **options: object) -> Checkpoint:
    """The same, loaded again for scoring."""
    return load_reward_model(make_checkpoint(base, folder, **options))


def plain_rewards(folder: Path, texts: list[str], *, special: bool, padded: bool) -> list[float]:
    """What plain transformers makes of texts that are rendered already."""
    tokenizer = load_tokenizer(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batches = [texts] if padded else [[text] for text in texts]
    rewards: list[float] = []
    for batch in batches:
        tokens = tokenizer(batch, return_tensors="pt", padding=padded, add_special_tokens=special, truncation=True)
        with torch.no_grad():
            rewards += model(**tokens).logits[:, 0].tolist()
    return rewards


def with_end(text: str, checkpoint: Checkpoint) -> str:
    """Rendered text as another library must be given it: plain text needs its EOS written out."""
    form: TextFormat = checkpoint.form
    return text + checkpoint.tokenizer.eos_token if form.append_eos else text
