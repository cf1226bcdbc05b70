"""Dialogues: HH transcripts, and chat messages whose last turn is the answer.

An HH transcript is one string of turns that start with `Human:` or `Assistant:` after a blank line; it holds
the prompt and the answer. The prompt is found by turn: it ends before the last turn, which must be the
assistant's. Cutting at the first differing character instead would cut inside an answer whenever both answers
begin alike.
"""

import re
from typing import NamedTuple

from trueup.data.rows import Message, Prompt

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Answered(NamedTuple):
    """A prompt and the answer that followed it."""

    prompt: Prompt
    answer: str


def is_transcript(text: object) -> bool:
    """Whether a value is a string that starts as an HH transcript does."""
    return isinstance(text, str) and _TURN.match(text.lstrip()) is not None


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Turns of an HH transcript, without the white space around them; empty if it is no transcript."""
    start = text.lstrip()
    if not _TURN.match(start):
        return ()
    parts = _TURN.split(start)
    return tuple(Message(_ROLES[name], content.strip()) for name, content in zip(parts[1::2], parts[2::2], strict=True))


def split_dialogue(turns: tuple[Message, ...]) -> Answered | None:
    """Cut a dialogue before its last turn; None unless that is an answer with a prompt before it."""
    if len(turns) < 2 or turns[-1].role in {"user", "system", "tool", "human"}:
        return None
    return Answered(turns[:-1], turns[-1].content)


def attach_answer(prompt: Prompt, answer: str | tuple[Message, ...]) -> Answered | None:
    """Bring a separately stated prompt together with an answer that may repeat it.

    An answer in messages may be the reply alone, the turns since the prompt, or the whole dialogue.

    Returns:
        None where the answer does not end in a reply or contradicts the prompt.
    """
    if isinstance(answer, str):
        return Answered(prompt, answer)
    before = answer[:-1]
    if not isinstance(prompt, str):
        return split_dialogue(answer if before[: len(prompt)] == prompt else prompt + answer)
    if not before:
        return split_dialogue((Message("user", prompt), *answer))
    stated = any(turn.content.strip() == prompt.strip() for turn in before)
    return split_dialogue(answer) if stated else None
