"""How a row becomes text: chat template, special tokens, truncation. Stored with a model and enforced ever after."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from trueup.data.rows import Message, Prompt, Row
from trueup.errors import DataError, RecipeError

logger = logging.getLogger(__name__)

BUILT_IN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n{% endfor %}"
)
"""Used where a tokenizer brings no chat template: `User: ...`, `Assistant: ...`, one turn after another."""

# Templates that print today's date would make a reward depend on the day it is asked for.
_FIXED_DATE = "{%- macro strftime_now(format) -%}01 Jan 2025{%- endmacro -%}{%- set date_string = '01 Jan 2025' -%}"


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """Everything between a row and its token ids.

    Args:
        kind: `chat` renders turns with the tokenizer's chat template, `plain` joins prompt and response as they are.
        special_tokens: Whether the tokenizer adds its own (BOS, CLS, SEP); off where the template writes them.
        append_eos: Whether the end-of-sequence token is appended unless it is there already.
        max_length: Longest sequence in tokens, or None.
        truncation_side: Which side of a longer sequence is cut when it is scored.
    """

    kind: Literal["chat", "plain"]
    special_tokens: bool
    append_eos: bool
    max_length: int | None = None
    truncation_side: Literal["left", "right"] = "left"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def infer_format(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None,
    truncation_side: Literal["left", "right"] = "left",
    kind: Literal["auto", "chat", "plain"] = "auto",
) -> TextFormat:
    """Choose the format for a first training run; may give the tokenizer our template or a fixed date.

    `auto` takes `chat` as soon as a prompt is a list of turns. Plain text gets an EOS, chat templates write their own.
    """
    if kind == "auto":
        kind = "chat" if any(not isinstance(row.prompt, str) for row in rows) else "plain"
    own_template = kind == "chat" and _ensure_template(tokenizer)
    return TextFormat(
        kind=kind,
        special_tokens=not own_template,
        append_eos=not own_template and tokenizer.eos_token_id is not None,
        max_length=max_length,
        truncation_side=truncation_side,
    )


def _ensure_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give the tokenizer a template if it has none; return whether it brought a template of its own."""
    template = tokenizer.chat_template
    if template is None or template == BUILT_IN_TEMPLATE:
        if template is None:
            logger.warning("the tokenizer has no chat template: using the built-in one (User: ... Assistant: ...)")
        tokenizer.chat_template = BUILT_IN_TEMPLATE
        return False
    if isinstance(template, str) and "strftime_now" in template and not template.startswith(_FIXED_DATE):
        logger.warning("the chat template prints today's date: fixed to 01 Jan 2025, so that rewards do not change")
        tokenizer.chat_template = _FIXED_DATE + template
    return True


def render(prompt: Prompt, response: str, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> str:
    """Text of one prompt with one response.

    Raises:
        DataError: A chat prompt meets a model that was trained on plain text.
    """
    if form.kind == "plain":
        if not isinstance(prompt, str):
            raise DataError(
                "the prompt is a list of chat turns",
                expected="plain text, which is what this model was trained on",
                cure="render the turns to text first, or train with text_format: chat",
            )
        return prompt + response
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    messages = [turn._asdict() for turn in turns] + [{"role": "assistant", "content": response}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def encode(
    texts: Sequence[str], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, truncate: bool
) -> list[list[int]]:
    """Token ids of rendered texts; with `truncate`, cut to the format's length on its side."""
    # verbose=False: the tokenizer's own length warning names a limit that is not ours
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=form.special_tokens, verbose=False)[
        "input_ids"
    ]
    if form.append_eos:
        end = tokenizer.eos_token_id
        encoded = [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]
    if not truncate or form.max_length is None:
        return encoded
    if form.truncation_side == "left":
        return [ids[-form.max_length :] for ids in encoded]
    return [ids[: form.max_length] for ids in encoded]


def with_length(form: TextFormat, max_length: int | None) -> TextFormat:
    """The same format at another maximum length."""
    if max_length is not None and max_length < 2:
        raise RecipeError(f"max_length must be at least 2 tokens, got {max_length}")
    return replace(form, max_length=max_length)
