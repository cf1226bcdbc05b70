"""The two OpenAI-style routes that most servers speak: chat completions and text completions.

Verified in the source of transformers 5.23 (`transformers serve`): a text route takes one string, `n` and `logprobs`
are ignored with a warning, and a field outside OpenAI's schema is refused with status 422.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from trueup.endpoints.failure import EndpointError

Api = Literal["chat", "completions"]

_ENDINGS: tuple[tuple[str, Api], ...] = (("/chat/completions", "chat"), ("/completions", "completions"))


@dataclass(frozen=True)
class Choice:
    """One completion.

    Args:
        text: What was written.
        reason: Why it ended: `stop`, `length`, or the server's own word.
        logprobs: Log-probability of each token in nats, where the server gave them.
    """

    text: str
    reason: str | None
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """The completions in one answer.

    Args:
        choices: One or more.
        tokens: Tokens of all of them together, where the server counted.
    """

    choices: tuple[Choice, ...]
    tokens: int | None


def find_route(url: str, api: Api = "chat") -> tuple[str, Api]:
    """The full address of a route, and which of the two it is.

    Args:
        url: A full address, or only a host, with or without `/v1`.
        api: Which route is meant where the address does not say.
    """
    parsed = httpx2.URL(url)
    path = parsed.path.rstrip("/")
    for ending, kind in _ENDINGS:
        if path.endswith(ending):
            return url, kind
    if path in ("", "/v1"):
        ending = next(ending for ending, kind in _ENDINGS if kind == api)
        return str(parsed.copy_with(path=f"/v1{ending}")), api
    return url, api


def read_completion(answer: Any, *, url: str) -> Completion:
    """Read an answer of either route.

    Raises:
        EndpointError: It has no such form.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise EndpointError(
            f"the answer has no choices: {shorten(answer)}", url=url, cure="check the url: it must be OpenAI-style"
        )
    usage = answer.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Completion(
        choices=tuple(_choice(choice, url) for choice in sorted(choices, key=_index)),
        tokens=counted if type(counted) is int and counted >= 0 else None,
    )


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _choice(choice: dict[str, Any], url: str) -> Choice:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(text, list):  # content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is None and isinstance(message, dict):
        text = ""  # what was drawn went into reasoning or a tool call
    if not isinstance(text, str):
        raise EndpointError(f"a choice has no text: {shorten(choice)}", url=url, cure="check the url")
    reason = choice.get("finish_reason")
    return Choice(text, reason if isinstance(reason, str) else None, _logprobs(choice.get("logprobs")))


def _logprobs(found: Any) -> tuple[float, ...] | None:
    """Chat routes give a list of records, text routes a plain list."""
    if not isinstance(found, dict):
        return None
    content, plain = found.get("content"), found.get("token_logprobs")
    values: Sequence[Any] | None = None
    if isinstance(content, list):
        values = [item.get("logprob") if isinstance(item, dict) else None for item in content]
    elif isinstance(plain, list):
        values = plain
    if values is None or not all(isinstance(value, int | float) for value in values):
        return None
    return tuple(float(value) for value in values)


def shorten(value: Any, limit: int = 200) -> str:
    """A value as it may be quoted in a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[:limit] + "..."


def without_nulls(payload: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """A request with a user's own fields laid over it; a field that is null is not sent."""
    return {key: value for key, value in {**payload, **extra}.items() if value is not None}
