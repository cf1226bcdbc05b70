"""How a row becomes text: chat template, special tokens, truncation. Stored with a model and enforced ever after."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trueup.data.rows import Message, Prompt, Row
from trueup.errors import DataError, RecipeError

logger = logging.getLogger(__name__)

BUILT_IN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n{% endfor %}"
)
_OPENS_REPLY = "{% if add_generation_prompt %}Assistant:{% endif %}"
"""Used where a tokenizer brings no chat template: `User: ...`, `Assistant: ...`, one turn after another.

A causal model's copy also writes the BOS, if its tokenizer would, and the EOS: whoever applies a chat template adds no
special tokens afterwards.
"""

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

    `auto` takes `chat` as soon as a prompt is a list of turns; where none is but the tokenizer has a chat template, it
    says so. Plain text gets an EOS; chat templates write their own
    special tokens, except those an encoder's tokenizer adds around any text.

    Raises:
        RecipeError: The chat template leaves the reply out.
    """
    if kind == "auto":
        kind = "chat" if any(not isinstance(row.prompt, str) for row in rows) else "plain"
        if kind == "plain" and tokenizer.chat_template:
            logger.warning(
                "prompts are plain text, so the model's chat template is not used; if it was trained on chats, render "
                "them as such: text_format chat"
            )
    special, append = True, tokenizer.eos_token_id is not None and not _adds_eos(tokenizer)
    if kind == "chat":
        _ensure_template(tokenizer)
        special, append = _around_any_text(tokenizer), False
    form = TextFormat(
        kind=kind,
        special_tokens=special,
        append_eos=append,
        max_length=max_length,
        truncation_side=truncation_side,
    )
    if kind == "chat" and "violet" not in render("What colour?", "violet", tokenizer=tokenizer, form=form):
        raise RecipeError("the chat template leaves the reply out; give the tokenizer one that prints every turn")
    return form


def _ensure_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a template if it has none, and a fixed date if its own prints today's."""
    template = tokenizer.chat_template
    if template is None:
        logger.warning("the tokenizer has no chat template: using the built-in one (User: ... Assistant: ...)")
        tokenizer.chat_template = _built_in(tokenizer)
    elif isinstance(template, dict):
        tokenizer.chat_template = {name: _without_date(text) for name, text in template.items()}
    else:
        tokenizer.chat_template = _without_date(template)


def _built_in(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.cls_token_id is not None:
        return BUILT_IN_TEMPLATE + _OPENS_REPLY
    starts = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    end = "{{ eos_token }}" if tokenizer.eos_token_id is not None else ""
    end = f"{{% if not add_generation_prompt %}}{end}{{% endif %}}" if end else ""
    return ("{{ bos_token }}" if starts else "") + BUILT_IN_TEMPLATE + end + _OPENS_REPLY


def _without_date(template: str) -> str:
    if "strftime_now" not in template or template.startswith(_FIXED_DATE):
        return template
    logger.warning("the chat template prints today's date: fixed to 01 Jan 2025, so that rewards do not change")
    return _FIXED_DATE + template


def _around_any_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer of an encoder adds a CLS that the template does not write."""
    return tokenizer.cls_token_id is not None and tokenizer.cls_token not in str(tokenizer.chat_template)


def _adds_eos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id])


def render(prompt: Prompt, response: str, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> str:
    """Text of one prompt with one response.

    Raises:
        DataError: A chat prompt meets a model that was trained on plain text, or turns the template refuses.
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
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the chat template refuses turns of {roles} ({error})",
            cure="change these turns, or give the tokenizer a template that takes them",
        ) from error


def render_row(row: Row, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> list[str]:
    """Texts of a row's prompt with each response.

    Raises:
        DataError: The row cannot be rendered; it is named.
    """
    try:
        return [render(row.prompt, response.text, tokenizer=tokenizer, form=form) for response in row.responses]
    except DataError as error:
        file, number = row.origin.file, row.origin.row
        raise DataError(error.found, file=file, row=number, expected=error.expected, cure=error.cure) from error


def encode(
    texts: Sequence[str], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, truncate: bool
) -> list[list[int]]:
    """Token ids of rendered texts; with `truncate`, cut to the format's length on its side.

    What the format adds around every text (BOS, CLS, SEP, EOS) is never cut: the head was trained to read there.

    Raises:
        DataError: A text has no tokens at all.
    """
    # verbose=False: the tokenizer's own length warning names a limit that is not ours
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=form.special_tokens, verbose=False)[
        "input_ids"
    ]
    if form.append_eos:
        end = tokenizer.eos_token_id
        encoded = [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]
    if not all(encoded):
        raise DataError("an empty prompt has an empty response, which leaves no token to score", cure="drop it")
    if not truncate or form.max_length is None:
        return encoded
    lead, tail = _ends(tokenizer, form)
    return [_cut(ids, form=form, lead=lead, tail=tail) for ids in encoded]


def _ends(tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> tuple[int, int]:
    """How many tokens the format adds before and after every text."""
    if not form.special_tokens:
        return 0, int(form.append_eos)
    added = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    lead = added.index(0) if 0 in added else len(added)
    return lead, sum(added) - lead + int(form.append_eos)


def _cut(ids: list[int], *, form: TextFormat, lead: int, tail: int) -> list[int]:
    if form.max_length is None or len(ids) <= form.max_length:
        return ids
    body, room = ids[lead : len(ids) - tail], max(form.max_length - lead - tail, 0)
    kept = body[len(body) - room :] if form.truncation_side == "left" else body[:room]
    return [*ids[:lead], *kept, *ids[len(ids) - tail :]]
