"""A pad token that is nothing else, for model and tokenizer alike."""

import logging
import re

from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PAD_TOKEN = "<|pad|>"
"""Added where a vocabulary has no token to spare."""

_MEANT_FOR_IT = ("<|finetune_right_pad_id|>", "<pad>", "<|pad|>", "[PAD]", "<|padding|>")
_NEVER_USED = re.compile(r"reserved|unused|placeholder", re.IGNORECASE)


def ensure_pad_token(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give model and tokenizer a pad token that stands for nothing else.

    transformers and vLLM find a sequence's end as its last token that is not the pad id: with pad = EOS they would
    read the token before the EOS.
    """
    taken = _taken(core, tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in taken:
        spare = _spare(tokenizer, taken)
        if spare is None:
            tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
        else:
            tokenizer.pad_token = spare
        logger.info("pad token set to %r (id %d)", tokenizer.pad_token, tokenizer.pad_token_id)
    tokenizer.padding_side = "right"
    known, needed = core.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values()) + 1
    if needed > known:
        logger.info("embeddings grow from %d to %d tokens, as the tokenizer has them", known, needed)
        core.resize_token_embeddings(needed, mean_resizing=False)
    for config in {id(c): c for c in (core.config, core.config.get_text_config())}.values():
        config.pad_token_id = tokenizer.pad_token_id


def _taken(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that mean something else: ends of sequences and turns, unknown and masked words, what the template writes."""
    ends = core.config.get_text_config().eos_token_id
    named = ("eos", "bos", "sep", "cls", "unk", "mask")
    ids = {getattr(tokenizer, f"{name}_token_id") for name in named}
    template = str(tokenizer.chat_template or "")
    written = {number for number, token in tokenizer.added_tokens_decoder.items() if token.content in template}
    return (ids | written | set(ends if isinstance(ends, list) else [ends])) - {None}


def _spare(tokenizer: PreTrainedTokenizerBase, taken: set[int]) -> str | None:
    """The best special token to pad with; words of the ordinary vocabulary are never taken, whatever they spell."""
    places: list[tuple[int, int, str]] = []
    for number, token in tokenizer.added_tokens_decoder.items():
        if not token.special or number in taken:
            continue
        if token.content in _MEANT_FOR_IT:
            places.append((_MEANT_FOR_IT.index(token.content), number, token.content))
        elif "pad" in token.content.lower():
            places.append((len(_MEANT_FOR_IT), number, token.content))
        elif _NEVER_USED.search(token.content):
            places.append((len(_MEANT_FOR_IT) + 1, number, token.content))
    return min(places)[2] if places else None
