"""The one internal row: a prompt and K >= 1 responses to it.

Every reader ends here and everything above starts here. A row never holds token ids; those are made by
`trueup.data.branches`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Message(NamedTuple):
    """One chat turn."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text, or chat turns that end before the reply."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row was read: a file (or hub id) and a row number counted from 1."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer to a prompt.

    Args:
        text: What was answered. May be empty.
        label: True if preferred, False if not, None where the data state a score or nothing.
        score: A scalar judgement (higher is better), in the data's own unit.
        source: Which model or writer produced it.
        features: Named numbers that came with it.
    """

    text: str
    label: bool | None = None
    score: float | None = None
    source: str | None = None
    features: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A prompt with its branches.

    Args:
        prompt: The text or the chat turns before the reply.
        responses: K >= 1 answers.
        id: Stable name, unique within its file.
        origin: Where it was read.
        subset: Domain, category or benchmark subset, if the data name one.
        margin: Margin between chosen and rejected, in reward units, if the data state one.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    id: str
    origin: Origin
    subset: str | None = None
    margin: float | None = None


class Pair(NamedTuple):
    """Indices of the preferred and the other response within one row."""

    chosen: int
    rejected: int


def prompt_text(prompt: Prompt) -> str:
    """Plain rendering of a prompt, for hashing, display and reports (never for tokenising)."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)
