"""A stand-in for vLLM that draws with a real tiny model and refuses what vLLM's documentation does not allow."""

import copy
import os
import sys
import types
from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, AutoModelForCausalLM

ENGINE_ARGUMENTS = {
    "model",
    "load_format",
    "dtype",
    "gpu_memory_utilization",
    "max_model_len",
    "enable_sleep_mode",
    "enforce_eager",
    "seed",
    "generation_config",
    "logprobs_mode",
    "distributed_executor_backend",
    "trust_remote_code",
}


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 16
    logprobs: int | None = None
    seed: int | None = None
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True

    def __post_init__(self):
        assert self.temperature > 0 or self.n == 1, "n must be 1 when using greedy sampling"
        assert -(2**63) <= self.seed < 2**63 - self.n


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None
    stop_reason: int | None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]


class LoadingModel(torch.nn.Module):
    """A model whose parameters are filled by name from a checkpoint's."""

    def __init__(self, core):
        super().__init__()
        self.core = core

    def load_weights(self, weights):
        own, loaded = dict(self.core.named_parameters()), set()
        for name, value in weights:
            assert value.shape == own[name].shape
            assert not value.requires_grad
            own[name].data.copy_(value)
            loaded.add(f"core.{name}")
        return loaded


class LLM:
    """Weights are noise until they are loaded, and again after deep sleep."""

    def __init__(self, **arguments):
        assert set(arguments) <= ENGINE_ARGUMENTS, set(arguments) - ENGINE_ARGUMENTS
        assert {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)
        assert arguments["distributed_executor_backend"] == "external_launcher"
        config = AutoConfig.from_pretrained(arguments["model"])
        assert config.architectures, "vLLM finds its own model by the architecture's name"
        torch.manual_seed(12345)  # as vLLM does
        core = AutoModelForCausalLM.from_config(config).to(getattr(torch, arguments["dtype"])).eval()
        self.model, self.arguments = LoadingModel(core), arguments
        self.calls, self.asleep, self.cached = [], set(), False
        sys.modules["vllm"].made.append(self)

    def apply_model(self, func):
        assert "weights" not in self.asleep, "memory of the weights is not mapped"
        self.calls.append("load")
        return [func(self.model)]

    def reset_prefix_cache(self):
        self.calls.append("reset")
        self.cached = False
        return True

    def sleep(self, level=1):
        assert self.arguments["enable_sleep_mode"]
        self.calls.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}
        for parameter in self.model.parameters():
            parameter.data.fill_(float("nan"))

    def wake_up(self, tags=None):
        self.calls.append(f"wake {','.join(tags)}")
        self.asleep -= set(tags)

    @torch.no_grad()
    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        assert not self.asleep
        assert not self.cached, "keys and values of other weights"
        assert len(prompts) == len(sampling_params)
        self.calls.append("generate")
        self.cached = True
        return [self._answer(p["prompt_token_ids"], how) for p, how in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt, how):
        outputs = [self._draw(prompt, copy.copy(how), index) for index in range(how.n)]
        return RequestOutput(list(prompt), outputs[::-1])  # children end in any order

    def _draw(self, prompt, how, index):
        generator = torch.Generator().manual_seed(how.seed + index)
        ids, logprobs, reason, stop = [], [], None, None
        while reason is None:
            logits = self.model.core(torch.tensor([[*prompt, *ids]])).logits[0, -1].float()
            raw = logits.log_softmax(-1)
            if how.temperature:
                token = int(torch.multinomial((logits / how.temperature).softmax(-1), 1, generator=generator))
            else:
                token = int(logits.argmax())
            ids.append(token)
            logprobs.append({token: Logprob(float(raw[token]))})
            if len(ids) == how.max_tokens:
                reason = "length"  # looked at first, as vLLM 0.11 does
            elif token in how.stop_token_ids:
                reason, stop = "stop", token
        told = logprobs if how.logprobs is not None else None
        return CompletionOutput(index, "", tuple(ids), told, reason, stop)


def install(monkeypatch):
    """Put the stand-in where `import vllm` finds it; the engines that are made are listed in `made`."""
    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams, module.made = LLM, SamplingParams, []
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module
