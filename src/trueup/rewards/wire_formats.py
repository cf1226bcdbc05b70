"""What reward servers speak; `HttpRewardSettings` says what each protocol is and how it was verified."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from trueup.data.rows import Message, Prompt, prompt_text
from trueup.rewards.flat import Asked

WireFormat = Literal["plain", "openrlhf", "vllm"]


class Form(NamedTuple):
    """How a protocol writes a batch, and what its answer holds as rewards; None where it holds none."""

    write: Callable[[Sequence[Asked]], dict[str, Any]]
    read: Callable[[Any], list[Any] | None]


def _write_plain(batch: Sequence[Asked]) -> dict[str, Any]:
    return {"prompts": [_plain(one.prompt) for one in batch], "responses": [one.response for one in batch]}


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt]


def _write_openrlhf(batch: Sequence[Asked]) -> dict[str, Any]:
    return {
        "query": [_joined(one) for one in batch],
        "prompts": [prompt_text(one.prompt) for one in batch],
        "labels": [""] * len(batch),
    }


def _joined(one: Asked) -> str:
    if isinstance(one.prompt, str):
        return one.prompt + one.response
    return prompt_text((*one.prompt, Message("assistant", one.response)))


def _write_vllm(batch: Sequence[Asked]) -> dict[str, Any]:
    first = batch[0]
    if isinstance(first.prompt, str):
        return {"input": [_joined(one) for one in batch], "use_activation": False}
    messages = [turn._asdict() for turn in (*first.prompt, Message("assistant", first.response))]
    return {"messages": messages, "use_activation": False}


def _read_rewards(answer: Any) -> list[Any] | None:
    found = answer.get("rewards") if isinstance(answer, Mapping) else None
    return found if isinstance(found, list) else None


def _read_vllm(answer: Any) -> list[Any] | None:
    """In the order of `index`; what is no single number is left for the check to name."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list) or not all(isinstance(item, Mapping) for item in data):
        return None
    order = [item.get("index") for item in data]
    if sorted(map(str, order)) != sorted(map(str, range(len(data)))):
        return None
    values: list[Any] = [None] * len(data)
    for item, index in zip(data, order, strict=True):
        value = item.get("probs", item.get("data"))
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        values[int(str(index))] = value
    return values


FORMS: dict[WireFormat, Form] = {
    "plain": Form(_write_plain, _read_rewards),
    "openrlhf": Form(_write_openrlhf, _read_rewards),
    "vllm": Form(_write_vllm, _read_vllm),
}
