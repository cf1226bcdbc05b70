"""A policy behind an OpenAI-style endpoint: `transformers serve`, vLLM, llama.cpp, and hosted ones."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from trueup.data.rows import Prompt
from trueup.endpoints.client import Client
from trueup.endpoints.completions import Api, Choice, Completion, find_route, read_completion, without_nulls
from trueup.endpoints.failure import EndpointError
from trueup.endpoints.settings import Endpoint
from trueup.errors import DataError, RecipeError
from trueup.policies.base import Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HttpPolicySettings(Endpoint):
    """How a policy's server is reached.

    Args:
        name: What reports call it; the model's name by default.
        model: Name of the model.
        api: `chat` (`/v1/chat/completions`, the server writes the chat template) or `completions`
            (`/v1/completions`, for text prompts), where the address does not say.
        per_request: Responses asked for at a time (`n`).
        logprobs: Whether log-probabilities are asked for. Servers state those of the model itself; so this needs
            temperature 1 and top_p 1, and a server that adds no top-k or penalty of its own.
        extra: Other fields of each request; one that is null is left out.
    """

    name: str = ""
    model: str | None = None
    api: Api = "chat"
    per_request: int = 16
    logprobs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_request < 1:
            raise RecipeError(f"per_request must be at least 1, got {self.per_request}")


class _Ask(NamedTuple):
    """One request: `wanted` responses to prompt `prompt`, the `number`-th request for it."""

    prompt: int
    wanted: int
    number: int


@dataclass(frozen=True, kw_only=True)
class HttpPolicy:
    """Samples by asking a server, several responses a request.

    A server that gives fewer responses than asked for is asked again, one that refuses to give several is asked for
    one at a time. Each request has its own seed, made of the caller's; answers are kept, so that the same call
    continues where it stopped and then returns the same, whether or not the server heeds seeds.

    Args:
        settings: How the server is reached.
        client: What asks; made from the settings.
        name: What reports call it.
        max_new_tokens: Length limit in tokens.
        temperature: Of sampling.
        top_p: Probability mass that is sampled from.
        progress: Whether a progress bar is shown.
    """

    settings: HttpPolicySettings
    client: Client
    name: str
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    progress: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise RecipeError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.settings.logprobs and (self.temperature, self.top_p) != (1.0, 1.0):
            raise RecipeError(
                f"logprobs at temperature {self.temperature:g} and top_p {self.top_p:g} are not those of the "
                "distribution that is sampled; use 1 and 1, or leave logprobs out"
            )

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        """Draw `count` responses to each prompt; `tokens` are characters unless the server counts each response's.

        Raises:
            EndpointError: The server fails.
            DataError: A chat prompt would go to a route for text.
        """
        asked = [self._prompt_fields(prompt, row) for row, prompt in enumerate(prompts, 1)]
        seeds = _prompt_seeds(prompts, seed)
        try:
            drawn = self._draw(asked, seeds, count=count, at_once=self.settings.per_request)
        except EndpointError as error:
            if error.status not in (400, 422) or min(count, self.settings.per_request) == 1:
                raise
            logger.info("%s refuses several responses a request (%s); asking for one at a time", self.name, error)
            drawn = self._draw(asked, seeds, count=count, at_once=1)
        return _samples(drawn, logprobs=self.settings.logprobs)

    def _draw(
        self, asked: Sequence[Mapping[str, Any]], seeds: Sequence[tuple[int, ...]], *, count: int, at_once: int
    ) -> list[list[tuple[Choice, int | None]]]:
        """Choices with their numbers of tokens, where known, in rounds until there are enough."""
        drawn: list[list[tuple[Choice, int | None]]] = [[] for _ in asked]
        given = [at_once] * len(asked)
        requests = [0] * len(asked)
        while True:
            todo = [
                _Ask(i, min(given[i], missing - start), requests[i] + number)
                for i, missing in enumerate(count - len(one) for one in drawn)
                for number, start in enumerate(range(0, missing, given[i]))
            ]
            if not todo:
                return drawn
            answers = self._ask([self._payload(asked[one.prompt], one, seeds[one.prompt]) for one in todo])
            for one, answer in zip(todo, answers, strict=True):
                choices = answer.choices[: one.wanted]
                alone = answer.tokens if len(answer.choices) == 1 else None
                drawn[one.prompt] += [(choice, _tokens(choice, alone)) for choice in choices]
                given[one.prompt] = min(given[one.prompt], max(len(choices), 1))
                requests[one.prompt] += 1

    def _ask(self, payloads: Sequence[dict[str, Any]]) -> list[Completion]:
        url = self.client.endpoint.address
        return self.client.ask(
            payloads,
            read=lambda answer, number: read_completion(answer, url=url),
            description=f"sample {self.name}",
            progress=self.progress,
        )

    def _payload(self, fields: Mapping[str, Any], one: _Ask, seed: tuple[int, ...]) -> dict[str, Any]:
        known = self.settings
        flag: bool | int = True if "messages" in fields else 1
        payload = {
            **fields,
            "model": known.model,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            # some servers hold a seed in 32 signed bits
            "seed": int(np.random.SeedSequence([*seed, one.number]).generate_state(1)[0]) >> 1,
            "n": one.wanted if one.wanted > 1 else None,
            "logprobs": flag if known.logprobs else None,
        }
        return without_nulls(payload, dict(known.extra))

    def _prompt_fields(self, prompt: Prompt, row: int) -> dict[str, Any]:
        chat = self.settings.api == "chat"
        if isinstance(prompt, str):
            return {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        if not chat:
            raise DataError(
                "a chat prompt cannot be sent to a route for text", row=row, cure="use the route /v1/chat/completions"
            )
        return {"messages": [turn._asdict() for turn in prompt]}


def _prompt_seeds(prompts: Sequence[Prompt], seed: int) -> list[tuple[int, ...]]:
    """Seeds by which a prompt that comes twice is answered afresh, wherever in the list it stands."""
    seen: Counter[Prompt] = Counter()
    seeds: list[tuple[int, ...]] = []
    for prompt in prompts:
        seeds.append((seed, seen[prompt]))
        seen[prompt] += 1
    return seeds


def _tokens(choice: Choice, counted: int | None) -> int | None:
    return counted if choice.logprobs is None else len(choice.logprobs)


def _samples(drawn: Sequence[Sequence[tuple[Choice, int | None]]], *, logprobs: bool) -> list[list[Sample]]:
    # one unit for all: a length in characters among lengths in tokens would mislead
    counted = all(tokens is not None for one in drawn for _, tokens in one)
    return [
        [
            Sample(
                text=choice.text,
                tokens=tokens if counted and tokens is not None else len(choice.text),
                finished=choice.reason == "stop",
                logprob=sum(choice.logprobs) if logprobs and choice.logprobs is not None else None,
            )
            for choice, tokens in one
        ]
        for one in drawn
    ]


def open_http_policy(
    settings: HttpPolicySettings,
    *,
    name: str = "",
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    progress: bool = False,
) -> HttpPolicy:
    """A policy's server from its settings; an address without a path is given the route of `api`."""
    url, api = find_route(settings.url, settings.api)
    routed = replace(settings, url=url, api=api)
    return HttpPolicy(
        settings=routed,
        client=Client(routed),
        name=name or settings.name or settings.model or settings.host,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        progress=progress,
    )
