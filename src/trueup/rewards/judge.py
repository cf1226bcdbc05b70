"""A language model behind an OpenAI-style chat endpoint as a reward: it is asked for a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from trueup.data.rows import Prompt, prompt_text
from trueup.endpoints.client import Client
from trueup.endpoints.completions import Choice, find_route, read_completion, shorten, without_nulls
from trueup.endpoints.failure import EndpointError
from trueup.endpoints.settings import Endpoint
from trueup.errors import RecipeError
from trueup.rewards.base import Scores
from trueup.rewards.flat import Asked, flatten, scores_of
from trueup.rewards.judge_answers import DEFAULT_TEMPLATE, ScoreReader, ask_about, compile_template

_OTHER_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(Endpoint):
    """A judge and how it is asked.

    Args:
        name: What reports call it; the model's name by default.
        model: Name of the model.
        template: The question, in Jinja2 with the variables `prompt` and `response`; by default it asks for a score
            from 1 to 10 as JSON. A chat prompt's turns are written `role: content`.
        template_file: File that holds the question instead.
        key: Key of the score in the JSON of the answer.
        pattern: Regular expression with one group that holds the score; replaces `key`.
        scale: Lowest and highest score; the reward is the score itself.
        temperature: Of the judge's sampling.
        max_tokens: Length limit of its answer.
        repeats: Answers per response, each with its own seed; the reward is their mean.
        seed: Seed of the first answer.
        extra: Other fields of each request; one that is null is left out.
    """

    name: str = ""
    model: str | None = None
    template: str | None = None
    template_file: Path | None = None
    key: str = "score"
    pattern: str | None = None
    scale: tuple[float, float] = (1.0, 10.0)
    temperature: float = 0.0
    max_tokens: int = 512
    repeats: int = 1
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1 or self.max_tokens < 1:
            raise RecipeError(f"repeats and max_tokens must be at least 1, got {self.repeats} and {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError(f"temperature must not be negative, got {self.temperature}")
        if self.repeats > 1 and self.temperature == 0:
            raise RecipeError(f"repeats is {self.repeats}, but answers at temperature 0 are equal; raise temperature")
        if self.template is not None and self.template_file is not None:
            raise RecipeError("template and template_file are both given; choose one")
        ScoreReader(key=self.key, pattern=self.pattern, scale=self.scale)

    def question(self) -> str:
        """The template's text.

        Raises:
            RecipeError: The file cannot be read.
        """
        if self.template_file is None:
            return self.template if self.template is not None else DEFAULT_TEMPLATE
        try:
            return self.template_file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise RecipeError(f"template_file: {self.template_file} cannot be read ({reason})") from error


@dataclass(frozen=True, kw_only=True)
class JudgeReward:
    """Scores by asking a judge about each response.

    An answer without a score is asked for once more with another seed; then it is an error that quotes it.

    Args:
        settings: The judge and how it is asked.
        client: What asks; made from the settings.
        name: What reports call it.
        progress: Whether a progress bar is shown.
    """

    settings: JudgeSettings
    client: Client
    name: str
    progress: bool = False

    def __post_init__(self) -> None:
        _ = self._template  # a bad template is found before anything is asked

    @cached_property
    def _template(self) -> jinja2.Template:
        return compile_template(self.settings.question())

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i; lengths are in characters.

        Raises:
            EndpointError: The server fails, or twice gives no score that can be read.
            RecipeError: The template cannot be filled in.
        """
        known = self.settings
        flat = flatten(prompts, responses)
        asked = [(one, known.seed + repeat) for one in flat for repeat in range(known.repeats)]
        scores = self._ask(asked)
        unread = [place for place, score in enumerate(scores) if score is None]
        again = self._ask([(asked[place][0], asked[place][1] + _OTHER_SEED) for place in unread], last=True)
        for place, score in zip(unread, again, strict=True):
            scores[place] = score
        values = np.asarray(scores, float).reshape(len(flat), known.repeats)
        return scores_of(values.mean(axis=1), flat)

    def _ask(self, asked: Sequence[tuple[Asked, int]], *, last: bool = False) -> list[float | None]:
        """One answer for each response and seed; None where it holds no score."""
        known = self.settings
        reader = ScoreReader(key=known.key, pattern=known.pattern, scale=known.scale)
        url = self.client.endpoint.address

        def read(answer: Any, number: int) -> float | None:
            choice = read_completion(answer, url=url).choices[0]
            score = reader.read(choice.text)
            if score is None and last:
                raise self._unreadable(choice, asked[number][0].row, url)
            return score

        payloads = [self._payload(one, seed) for one, seed in asked]
        return self.client.ask(payloads, read=read, description=f"score with {self.name}", progress=self.progress)

    def _payload(self, one: Asked, seed: int) -> dict[str, Any]:
        known = self.settings
        question = ask_about(self._template, prompt=prompt_text(one.prompt), response=one.response)
        payload = {
            "model": known.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": known.temperature,
            "max_tokens": known.max_tokens,
            "seed": seed,
        }
        return without_nulls(payload, dict(known.extra))

    def _unreadable(self, choice: Choice, row: int, url: str) -> EndpointError:
        low, high = self.settings.scale
        wanted = f"`{self.settings.pattern}`" if self.settings.pattern else f'JSON with "{self.settings.key}"'
        if choice.reason == "length":
            cure = "the answer was cut: raise max_tokens"
        else:
            cure = "change the template so that it says how to answer, or key, pattern and scale"
        return EndpointError(
            f"no score for a response in row {row}: expected {wanted} from {low:g} to {high:g}, "
            f"the judge answered {shorten(choice.text)} at the second try",
            url=url,
            cure=cure,
        )


def open_judge(settings: JudgeSettings, *, name: str = "", progress: bool = False) -> JudgeReward:
    """A judge from its settings; an address without a path is given `/v1/chat/completions`."""
    routed = replace(settings, url=find_route(settings.url)[0])
    known_as = name or settings.name or settings.model or settings.host
    return JudgeReward(settings=routed, client=Client(routed), name=known_as, progress=progress)
