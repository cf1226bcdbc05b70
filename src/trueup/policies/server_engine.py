"""An OpenAI-style server as rollout engine: text comes back, and the policy says how likely it was.

A server's weights are somebody else's. It is renewed by a checkpoint in a folder and requests that make the server read
it; a server that cannot be renewed is refused once its weights are older than was allowed.
"""

import copy
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from trueup.data.replies import encode_prompts, encode_replies, render_prompt
from trueup.data.rows import Origin, Prompt, Response, Row
from trueup.endpoints.client import Client
from trueup.endpoints.completions import Api, find_route
from trueup.endpoints.settings import Endpoint
from trueup.errors import RecipeError
from trueup.files import written_whole
from trueup.models.generation import Reply, Sampling
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.base import Sample
from trueup.policies.http import HttpPolicySettings, open_http_policy

logger = logging.getLogger(__name__)

FOLDER, NUMBER = "{folder}", "{number}"


@dataclass(frozen=True, kw_only=True)
class ServerCall:
    """A request that is posted to a server when there are new weights.

    Args:
        url: Where to.
        body: JSON; `{folder}` in its texts becomes the folder that holds the weights.
    """

    url: str
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server is reached, and how it gets new weights.

    Args:
        url: Address of the server, or of one of its OpenAI-style routes.
        model: Name of the model; `{folder}` becomes the folder that holds the newest weights, for a server that loads
            whatever a request names.
        folder: Where the policy is written before each rollout; `{number}` becomes the number of the rollout in this
            run, and folders of earlier numbers are removed.
        renew: Requests that make the server read the folder, in order.
        stale_rollouts: How many rollouts may be drawn with weights that are older than the policy's, from a server
            that cannot be renewed.
        api_key_env: Environment variable that holds the API key.
        timeout_seconds: How long one answer may take.
        attempts: How often a request is tried before the run stops.
        concurrent: Requests under way at a time.
        per_request: Replies asked for at a time.
        extra: Other fields of each request for replies.
    """

    url: str
    model: str | None = None
    folder: str | None = None
    renew: list[ServerCall] = field(default_factory=list)
    stale_rollouts: int = 0
    api_key_env: str | None = None
    timeout_seconds: float = 600.0
    attempts: int = 6
    concurrent: int = 32
    per_request: int = 16
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.stale_rollouts < 0:
            raise RecipeError(f"stale_rollouts must not be negative, got {self.stale_rollouts}")
        if self.renewable and self.folder is None:
            raise RecipeError("a server is renewed from a folder; set rollouts.folder to one that it can read")
        if self.folder is not None and not self.renewable:
            raise RecipeError("nothing makes the server read the folder; set renew, or write {folder} in model")
        if not self.renewable and not self.stale_rollouts:
            raise RecipeError(
                "the server would never get the policy's new weights; set folder and renew (docs/rollouts.md), or say "
                "by stale_rollouts how many rollouts it may draw with old ones"
            )
        _ = self.endpoint

    @property
    def renewable(self) -> bool:
        """Whether the server is given new weights."""
        return bool(self.renew) or FOLDER in (self.model or "")

    @property
    def endpoint(self) -> HttpPolicySettings:
        """How it is asked for replies; never from a cache, since its weights change."""
        return HttpPolicySettings(
            url=self.url,
            model=self.model,
            api_key_env=self.api_key_env,
            timeout_seconds=self.timeout_seconds,
            attempts=self.attempts,
            concurrent=self.concurrent,
            per_request=self.per_request,
            cache=False,
            extra=self.extra,
        )


@dataclass(kw_only=True)
class ServerEngine:
    """Draws by asking a server; what it says is tokenised as the policy's own data are.

    Tokens are those of the text that came back, which need not be the ones that were drawn; a policy's own
    log-probabilities of them are computed by whoever learns from them. Each reply's end is the server's word for it
    (`finish_reason`).

    Args:
        checkpoint: The policy, of which the shape, the tokenizer and the text format are taken.
        sampling: How replies are drawn.
        settings: How the server is reached and renewed.
        transport: Replaces the network, for tests.
    """

    checkpoint: PolicyCheckpoint
    sampling: Sampling
    settings: ServerSettings
    transport: httpx2.BaseTransport | None = None
    shared: bool = field(default=True, init=False)
    tells_logprobs: bool = field(default=False, init=False)
    _renewed: int = field(default=0, init=False)

    def renew(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Write the policy and make the server read it.

        Raises:
            RecipeError: It cannot be renewed, and its weights are too old by now.
            EndpointError: It does not answer.
            OutputError: The folder cannot be written.
        """
        known = self.settings
        if not known.renewable:
            if self._renewed > known.stale_rollouts:
                raise RecipeError(
                    f"the server has drawn {known.stale_rollouts} rollouts with weights older than the policy's, as "
                    "many as stale_rollouts allows; set folder and renew, so that it gets new ones"
                )
            self._renewed += 1
            return
        before = self._folder
        self._renewed += 1
        folder = self._folder
        assert folder is not None
        self._write(folder, dict(weights))
        for call in known.renew:
            self._post(call)
        if before is not None and before != folder:
            shutil.rmtree(before, ignore_errors=True)

    def draw(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> tuple[list[list[int]], list[list[Reply]]]:
        """Token ids of each prompt, and of `count` replies to each; how likely they were is not known."""
        known = self.checkpoint
        asked = encode_prompts(prompts, tokenizer=known.tokenizer, form=known.form)
        policy = open_http_policy(
            replace(self.settings.endpoint, api=self._api, model=self._model),
            max_new_tokens=self.sampling.max_new_tokens,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
        )
        if self.transport is not None:
            policy = replace(policy, client=Client(policy.settings, transport=self.transport))
        drawn = policy.sample(self._sent(prompts), count, seed=seed)
        return asked, [self._replies(prompt, samples) for prompt, samples in zip(prompts, drawn, strict=True)]

    def close(self) -> None:
        """Nothing is held; the folder stays, since the server may still read it."""

    @property
    def _folder(self) -> Path | None:
        """Where the newest weights are; None before there are any."""
        if self.settings.folder is None or not self._renewed:
            return None
        return Path(self.settings.folder.replace(NUMBER, str(self._renewed))).expanduser().absolute()

    @property
    def _model(self) -> str | None:
        return _filled(self.settings.model, self._folder) if self.settings.model is not None else None

    @property
    def _api(self) -> Api:
        chat = self.checkpoint.form.kind == "chat"
        api = find_route(self.settings.url, "chat" if chat else "completions")[1]
        if api == "chat" and not chat:
            raise RecipeError(
                f"{self.settings.url} would put a chat template around prompts, but the policy reads plain text; use "
                "the route /v1/completions"
            )
        return api

    def _sent(self, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
        """Turns for a server that writes the chat template, else the very text that the policy reads."""
        known = self.checkpoint
        if self._api == "chat":
            return prompts
        return [render_prompt(one, tokenizer=known.tokenizer, form=known.form) for one in prompts]

    def _write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """An ordinary checkpoint, whole or not at all."""
        core = self.checkpoint.model.core
        config = copy.deepcopy(core.config)
        config.architectures = [type(core).__name__]
        with written_whole(folder) as aside:
            config.save_pretrained(aside)
            _whole_distribution(core.generation_config).save_pretrained(aside)
            self.checkpoint.tokenizer.save_pretrained(aside)
            tensors = {name: value.contiguous() for name, value in weights.items()}
            save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})

    def _post(self, call: ServerCall) -> None:
        known = self.settings
        endpoint = Endpoint(
            url=call.url,
            api_key_env=known.api_key_env,
            timeout_seconds=known.timeout_seconds,
            attempts=known.attempts,
            cache=False,
        )
        body = _filled(call.body, self._folder)
        Client(endpoint, transport=self.transport).ask([body], read=lambda answer, _: answer, description="renew")

    def _replies(self, prompt: Prompt, samples: Sequence[Sample]) -> list[Reply]:
        known = self.checkpoint
        texts = tuple(Response(text=one.text) for one in samples)
        rows = [Row(prompt=prompt, responses=texts, id="", origin=Origin(self.settings.url, 1))]
        _, ids = encode_replies(rows, tokenizer=known.tokenizer, form=known.form, truncate=False)[0]
        ended = [self._reply(one, found) for one, found in zip(samples, ids, strict=True)]
        empty = sum(not one.finished and reply.finished for one, reply in zip(samples, ended, strict=True))
        if empty:
            logger.warning("%d replies have no text and no end; they count as ended at once", empty)
        return ended

    def _reply(self, sample: Sample, ids: list[int]) -> Reply:
        """The reply without its end, where it was cut off."""
        cut = ids if sample.finished else self._without_tail(ids, sample.text)
        kept = cut or ids[-1:]
        unknown = np.full(len(kept), np.nan, np.float32)
        return Reply(
            ids=tuple(kept),
            finished=sample.finished or not cut,
            logprob=float("nan"),
            logprobs=unknown,
            policy_logprobs=unknown,
        )

    def _without_tail(self, ids: list[int], text: str) -> list[int]:
        """Tokens of the text without what the template puts behind it."""
        tokenizer = self.checkpoint.tokenizer
        kept = ids[:-1]
        while kept and text in tokenizer.decode(kept[:-1], skip_special_tokens=True):
            kept = kept[:-1]
        return kept


def _whole_distribution(known: GenerationConfig) -> GenerationConfig:
    """Defaults under which a server draws from all tokens: `transformers serve` would be greedy or keep 50 of them."""
    plain = GenerationConfig(do_sample=True, temperature=1.0, top_p=1.0, top_k=0)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(plain, name, getattr(known, name))
    return plain


def _filled(value: Any, folder: Path | None) -> Any:
    """Plain values with the folder's name in all texts."""
    if isinstance(value, str):
        return value.replace(FOLDER, str(folder)) if folder is not None else value
    if isinstance(value, Mapping):
        return {key: _filled(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, folder) for each in value]
    return value
