"""A reward that lives behind HTTP: a reward server."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trueup.data.rows import Prompt
from trueup.endpoints.client import Client
from trueup.endpoints.completions import shorten, without_nulls
from trueup.endpoints.failure import EndpointError
from trueup.endpoints.settings import Endpoint
from trueup.errors import RecipeError
from trueup.rewards.base import Scores
from trueup.rewards.flat import Asked, flatten, scores_of
from trueup.rewards.wire_formats import FORMS, WireFormat


@dataclass(frozen=True, kw_only=True)
class HttpRewardSettings(Endpoint):
    """How a reward server is reached and what it speaks.

    - `plain`: `{"prompts": [...], "responses": [...]}` is answered by `{"rewards": [...]}`. A chat prompt is a list of
      `{"role", "content"}`.
    - `openrlhf`: `{"query": [...], "prompts": [...], "labels": [...]}` is answered by `{"rewards": [...]}`. A query is
      the prompt followed by the response; a chat prompt's turns are written `role: content` with an empty line
      between them, the response being the assistant's. Labels are empty strings. Verified in OpenRLHF's source:
      `openrlhf/utils/remote_rm_utils.py` (client) and `openrlhf/cli/serve_rm.py` (server, which reads `query` alone).
    - `vllm`: `{"model", "input": [...], "use_activation": false}`, posted to `/classify` or `/pooling`, is answered by
      `{"data": [{"index", "probs" or "data": [number]}]}`. Text prompts are sent followed by their response; a chat
      goes as `messages`, one a request, so that the server applies the model's own template. Verified in vLLM's
      source: `vllm/entrypoints/pooling/{base,classify,pooling}/protocol.py`. `use_activation: false` asks for the raw
      value, which a model with `problem_type: "regression"` gives anyway; before vLLM 0.11.1 it was named `activation`.

    Args:
        name: What reports call it; the host by default.
        protocol: Which of these.
        model: Name of the model, where the server holds several.
        batch_size: Responses per request.
        extra: Other fields of each request; one that is null is left out.
    """

    name: str = ""
    protocol: WireFormat = "plain"
    model: str | None = None
    batch_size: int = 32
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise RecipeError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class HttpReward:
    """Scores by asking a server.

    Args:
        settings: How it is reached and what it speaks.
        client: What asks; made from the settings.
        name: What reports call it.
        progress: Whether a progress bar is shown.
    """

    settings: HttpRewardSettings
    client: Client
    name: str
    progress: bool = False

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i; lengths are in characters.

        Raises:
            EndpointError: The server fails, or gives another number of rewards or something that is no finite number.
        """
        flat = flatten(prompts, responses)
        batches = _batches(flat, self.settings)
        form = FORMS[self.settings.protocol]
        fields = {"model": self.settings.model}
        payloads = [without_nulls({**fields, **form.write(batch)}, dict(self.settings.extra)) for batch in batches]

        def read(answer: Any, number: int) -> list[float]:
            values = form.read(answer)
            return _checked(values, answer, batches[number], self.settings.address)

        scored = self.client.ask(payloads, read=read, description=f"score with {self.name}", progress=self.progress)
        reward = np.asarray([value for batch in scored for value in batch], float)
        return scores_of(reward, flat)


def _batches(flat: Sequence[Asked], settings: HttpRewardSettings) -> list[list[Asked]]:
    """Cut responses into requests; vLLM takes one chat at a time."""
    batches: list[list[Asked]] = []
    room = 0
    for one in flat:
        alone = settings.protocol == "vllm" and not isinstance(one.prompt, str)
        if alone or not room:
            batches.append([])
            room = 1 if alone else settings.batch_size
        batches[-1].append(one)
        room -= 1
    return batches


def _checked(values: list[Any] | None, answer: Any, batch: Sequence[Asked], url: str) -> list[float]:
    """The rewards as numbers; 0 is one like any other."""
    if values is None:
        raise EndpointError(
            f"the answer has no rewards: {shorten(answer)}", url=url, cure="check the url and the protocol"
        )
    rows = f"rows {batch[0].row} to {batch[-1].row}"
    if len(values) != len(batch):
        raise EndpointError(
            f"{len(values)} rewards for the {len(batch)} responses of {rows}", url=url, cure="return one for each"
        )
    rewards = [_number(value) for value in values]
    for reward, value, one in zip(rewards, values, batch, strict=True):
        if not math.isfinite(reward):
            raise EndpointError(
                f"the reward of a response in row {one.row} is {shorten(value, 80)}",
                url=url,
                cure="return one finite number for each response",
            )
    return rewards


def _number(value: Any) -> float:
    """A number as it is; NaN for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def open_http_reward(settings: HttpRewardSettings, *, name: str = "", progress: bool = False) -> HttpReward:
    """A reward server from its settings."""
    known_as = name or settings.name or settings.host
    return HttpReward(settings=settings, client=Client(settings), name=known_as, progress=progress)
