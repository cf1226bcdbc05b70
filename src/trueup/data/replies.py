"""Where a prompt ends and a reply begins: text and token ids as a policy sees them when it answers.

A policy is asked with the prompt's tokens and appends the reply's. So the prompt is tokenised by itself, and a reply
is what follows it in the tokens of both together; where a tokenizer merges across the seam, the reply is tokenised by
itself too. Training, log-probabilities and sampling thus agree on every token.
"""

from collections.abc import Sequence
from dataclasses import replace

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trueup.data.rows import Message, Prompt, Row
from trueup.data.templates import TextFormat, encode, render
from trueup.errors import DataError, RecipeError

_PROBE = "violet"


def render_prompt(prompt: Prompt, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> str:
    """Text that a policy is asked with: the prompt, and the opening of the reply's turn where a template has one.

    Raises:
        RecipeError: The chat template prints something else before a reply than when it asks for one.
        DataError: The prompt does not fit the format.
    """
    whole = render(prompt, _PROBE, tokenizer=tokenizer, form=form)
    if form.kind == "plain":
        return whole[: -len(_PROBE)]
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    messages = [turn._asdict() for turn in turns]
    try:
        asked = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        roles = ", ".join(turn.role for turn in turns)
        raise DataError(
            f"the chat template refuses to open a reply to turns of {roles} ({error})",
            cure="change these turns, or give the tokenizer a template that takes them",
        ) from error
    if whole.startswith(asked):
        return asked
    raise RecipeError(
        "the chat template opens a reply with other text than it prints before one; give the tokenizer a template "
        "whose generation prompt is the beginning of the assistant's turn"
    )


def render_reply(prompt: Prompt, response: str, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> str:
    """What follows the rendered prompt: the response, and the end of its turn up to the end-of-sequence token."""
    asked = render_prompt(prompt, tokenizer=tokenizer, form=form)
    return _after(asked, render(prompt, response, tokenizer=tokenizer, form=form), tokenizer)


def _after(asked: str, whole: str, tokenizer: PreTrainedTokenizerBase) -> str:
    reply = whole[len(asked) :]
    body, end, rest = reply.rpartition(tokenizer.eos_token or "\0")
    return body + end if end and not rest.strip() else reply


def encode_prompts(
    prompts: Sequence[Prompt], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> list[list[int]]:
    """Token ids that a policy is asked with."""
    texts = [render_prompt(prompt, tokenizer=tokenizer, form=form) for prompt in prompts]
    return _prompt_ids(texts, tokenizer=tokenizer, form=form)


def _prompt_ids(texts: Sequence[str], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=form.special_tokens, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    if form.special_tokens and not form.append_eos:  # some tokenizers end every text; a prompt goes on
        ids = [one[:-1] if one[-1:] == [end] and len(one) > 1 else one for one in ids]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
    return [one or [start] for one in ids]  # the first token of a reply needs something before it


def encode_replies(
    rows: Sequence[Row], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, truncate: bool
) -> list[tuple[list[int], list[list[int]]]]:
    """Token ids of each row's prompt, and of each of its replies, which end with the end-of-sequence token.

    Args:
        rows: What to tokenise.
        tokenizer: A transformers tokenizer.
        form: The text format.
        truncate: Whether prompts are cut on the left, and replies that fill all on the right, to the format's length.

    Raises:
        DataError: A row cannot be rendered; it is named.
    """
    if not rows:
        return []
    whole = replace(form, append_eos=False, max_length=None)
    asked: list[str] = []
    replies: list[list[str]] = []
    for row in rows:
        try:
            start = render_prompt(row.prompt, tokenizer=tokenizer, form=form)
            whole_texts = [render(row.prompt, r.text, tokenizer=tokenizer, form=form) for r in row.responses]
        except DataError as error:
            file, number = row.origin.file, row.origin.row
            raise DataError(error.found, file=file, row=number, expected=error.expected, cure=error.cure) from error
        asked.append(start)
        replies.append([_after(start, text, tokenizer) for text in whole_texts])
    prompts = _prompt_ids(asked, tokenizer=tokenizer, form=form)
    joint = [prompt + text for prompt, texts in zip(asked, replies, strict=True) for text in texts]
    flat = [text for texts in replies for text in texts]
    together = iter(encode([text or " " for text in joint], tokenizer=tokenizer, form=whole, truncate=False))
    alone = iter(tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"])
    result = []
    for prompt, texts in zip(prompts, replies, strict=True):
        branches = [_ended(_reply_ids(prompt, next(together), next(alone)), tokenizer) for _ in texts]
        result.append(_cut(prompt, branches, form.max_length) if truncate else (prompt, branches))
    return result


def _reply_ids(prompt: list[int], together: list[int], alone: list[int]) -> list[int]:
    if len(together) > len(prompt) and together[: len(prompt)] == prompt:
        return together[len(prompt) :]
    return list(alone)


def _ended(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _cut(prompt: list[int], branches: list[list[int]], limit: int | None) -> tuple[list[int], list[list[int]]]:
    longest = max(len(branch) for branch in branches)
    if limit is None or len(prompt) + longest <= limit:
        return prompt, branches
    room = max(limit - longest, 1)
    kept = prompt[-room:]
    return kept, [branch[: limit - len(kept)] for branch in branches]
