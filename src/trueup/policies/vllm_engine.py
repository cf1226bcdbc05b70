"""vLLM as rollout engine, in the training process and on its GPU (`pip install "trueup[vllm]"`).

vLLM holds a copy of the policy that begins as noise and takes the policy's weights before each rollout. It computes
with kernels, and usually in a type, of its own, so that its log-probabilities are near the policy's but not the same.

Verified in the source of vLLM 0.11 and in TRL 1.16, which drives 0.22 to 0.31 in this way: `external_launcher` keeps
the engine in this process; `apply_model` calls a function with the loaded model; `token_ids` hold the token that ended
a reply, whether EOS or a stop token; a reply whose last allowed token is EOS may be called `length`, so that its end is
told by that token and not by `finish_reason`; child `i` of `n` is drawn with `seed + i`; greedy sampling refuses `n`
above 1.
"""

import copy
import gc
import hashlib
import importlib
import math
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trueup.data.replies import encode_prompts
from trueup.data.rows import Prompt
from trueup.errors import CheckpointError, MissingExtraError, RecipeError
from trueup.models.generation import Reply, Sampling, cut, ends_of
from trueup.models.policy_checkpoints import PolicyCheckpoint


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """How vLLM shares the GPU with training.

    Args:
        gpu_memory: Share of the GPU's memory that vLLM takes for weights, keys and values.
        dtype: Type of its weights; training keeps float32.
        max_model_len: Longest prompt with its reply, in tokens; the model's own limit by default.
        sleep: Give weights, keys and values back to training between rollouts; they are pushed anew each time anyway.
        enforce_eager: Do without CUDA graphs: starts sooner, draws slower.
    """

    gpu_memory: float = 0.3
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    max_model_len: int | None = None
    sleep: bool = True
    enforce_eager: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory < 1:
            raise RecipeError(f"gpu_memory must lie between 0 and 1, got {self.gpu_memory}")
        if self.max_model_len is not None and self.max_model_len < 2:
            raise RecipeError(f"max_model_len must be at least 2, got {self.max_model_len}")


@dataclass(kw_only=True)
class VllmEngine:
    """Draws with vLLM; it is started when it is given weights for the first time.

    Args:
        checkpoint: The policy, of which the shape, the tokenizer and the text format are taken.
        sampling: How replies are drawn.
        settings: How vLLM shares the GPU.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        MissingExtraError: vLLM is not installed.
    """

    checkpoint: PolicyCheckpoint
    sampling: Sampling
    settings: VllmSettings = field(default_factory=VllmSettings)
    trust_remote_code: bool = False
    shared: bool = field(default=False, init=False)
    tells_logprobs: bool = field(default=True, init=False)
    _llm: Any = field(default=None, init=False)
    _ready: bool = field(default=False, init=False)
    _ends: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._vllm = _import_vllm()
        self._ends = set(ends_of(self.checkpoint.model).tolist())

    def renew(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Push weights into vLLM's model.

        Raises:
            CheckpointError: vLLM's model has weights that were not given.
        """
        asleep = self._llm is not None and not self._ready and self.settings.sleep
        if self._llm is None:
            self._llm = self._start()
        if asleep:
            self._llm.wake_up(tags=["weights"])
        missing = self._llm.apply_model(lambda model: _load(model, weights))[0]
        if missing:
            raise CheckpointError(f"vLLM's model has weights that the policy lacks: {', '.join(missing[:3])}")
        self._llm.reset_prefix_cache()  # keys and values of the weights before
        if asleep:
            self._llm.wake_up(tags=["kv_cache"])
        self._ready = True

    def draw(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> tuple[list[list[int]], list[list[Reply]]]:
        """Token ids of each prompt, and of `count` replies to each, each with a seed of its own."""
        if not self._ready:
            raise RuntimeError("the engine has no weights; renew it before each rollout")
        asked = encode_prompts(prompts, tokenizer=self.checkpoint.tokenizer, form=self.checkpoint.form)
        drawn = self._draw(asked, count, seed) if asked else []
        if self.settings.sleep:
            self._llm.sleep(level=2)
            self._ready = False
        return asked, drawn

    def close(self) -> None:
        """Let vLLM go."""
        self._llm, self._ready = None, False
        gc.collect()
        torch.cuda.empty_cache()

    def _start(self) -> Any:
        known, how = self.checkpoint, self.settings
        config = copy.deepcopy(known.model.core.config)
        config.architectures = [type(known.model.core).__name__]
        # vLLM seeds torch's generators for itself; those of training must not notice.
        with tempfile.TemporaryDirectory() as folder, _launched(), torch.random.fork_rng():
            config.save_pretrained(folder)
            known.tokenizer.save_pretrained(folder)
            return self._vllm.LLM(
                model=folder,
                load_format="dummy",
                dtype=how.dtype,
                gpu_memory_utilization=how.gpu_memory,
                max_model_len=how.max_model_len,
                enable_sleep_mode=how.sleep,
                enforce_eager=how.enforce_eager,
                seed=0,
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                distributed_executor_backend="external_launcher",
                trust_remote_code=self.trust_remote_code,
            )

    def _draw(self, asked: Sequence[Sequence[int]], count: int, seed: int) -> list[list[Reply]]:
        prompts = [{"prompt_token_ids": list(ids)} for ids in asked]
        at_once = count if self.sampling.temperature > 0 else 1
        params = [self._params(at_once, prompt_seed(ids, seed=seed)) for ids in asked]
        results = self._llm.generate(prompts, sampling_params=params, use_tqdm=False)
        drawn = [
            [self._reply(one) for one in sorted(result.outputs, key=lambda one: int(one.index))] for result in results
        ]
        if any(len(replies) != at_once for replies in drawn):
            raise RuntimeError(f"vLLM gave other numbers of replies than the {at_once} that it was asked for")
        return [replies * (count // at_once) for replies in drawn]

    def _params(self, count: int, seed: int) -> Any:
        return self._vllm.SamplingParams(
            n=count,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=self.sampling.max_new_tokens,
            logprobs=0,  # of the drawn token alone
            seed=seed,
            # The ends are the policy's, whatever vLLM finds beside the tokenizer.
            ignore_eos=True,
            stop_token_ids=sorted(self._ends),
            detokenize=False,
        )

    def _reply(self, output: Any) -> Reply:
        ids = [int(token) for token in output.token_ids]
        if output.finish_reason not in ("stop", "length") or not ids:
            raise RuntimeError(f"vLLM broke off a reply ({output.finish_reason}) after {len(ids)} tokens")
        own = _logprobs(ids, output.logprobs)
        how = self.sampling
        drawn_from = own if (how.temperature, how.top_p) == (1.0, 1.0) else np.full_like(own, math.nan)
        return cut(ids, np.zeros_like(own) if how.temperature == 0 else drawn_from, own, ends=self._ends)


def _import_vllm() -> Any:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise MissingExtraError(
            f'rollouts by vLLM need vLLM ({error}); `pip install "trueup[vllm]"` on Linux with a GPU, or leave '
            "rollouts out"
        ) from error


def prompt_seed(prompt: Sequence[int], *, seed: int) -> int:
    """A seed of its own for each prompt, a function of seed and prompt alone; small enough to be counted up from."""
    told = repr((seed, [int(token) for token in prompt]))
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "little") >> 2


def _logprobs(ids: Sequence[int], steps: Sequence[Any] | None) -> np.ndarray:
    """Log-probability of each token under the model at temperature 1; NaN where vLLM does not say."""
    if steps is None:
        return np.full(len(ids), math.nan, np.float32)
    return np.asarray([step[token].logprob for token, step in zip(ids, steps, strict=True)], np.float32)


def _load(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Load weights into vLLM's model; the names of those that stayed as they were, where it tells."""
    loaded = model.load_weights(weights)  # type: ignore[operator]
    return sorted({name for name, _ in model.named_parameters()} - set(loaded)) if loaded is not None else []


@contextmanager
def _launched() -> Iterator[None]:
    """The variables by which a launcher tells each process who it is; they are gone afterwards, as others read them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    missing = {name: value for name, value in alone.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
