"""Drawing replies with transformers' own generation, for models that ours does not fit; and how that is found out."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.models.generation import Reply, Sampling, cut, draw, ends_of
from trueup.models.policy import PolicyModel

logger = logging.getLogger(__name__)

_TOLERANCE = {torch.float16: 0.05, torch.bfloat16: 0.3}


@torch.inference_mode()
def draw_with_transformers(
    model: PolicyModel, prompts: Sequence[Sequence[int]], count: int, *, sampling: Sampling, seed: int, first: int = 0
) -> list[list[Reply]]:
    """Draw `count` replies to each prompt; as `trueup.models.generation.draw`, for any causal model.

    A reply is a function of the seed and of all the prompts that are drawn for together.
    """
    size = max(map(len, prompts))
    grid = torch.zeros(len(prompts), size, dtype=torch.long, device=model.device)
    real = torch.zeros_like(grid)
    for number, ids in enumerate(prompts):
        grid[number, size - len(ids) :] = torch.tensor(list(ids), device=model.device)
        real[number, size - len(ids) :] = 1
    warm = sampling.temperature > 0
    options = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if warm else {}
    model.share_nothing("it is sampled by transformers' own generation")
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(_seed(prompts, seed=seed, first=first))
        result = model.core.generate(
            input_ids=grid,
            attention_mask=real,
            do_sample=warm,
            num_return_sequences=count,
            max_new_tokens=sampling.max_new_tokens,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **options,
        )
    drawn, ends = result.sequences[:, size:], set(ends_of(model).tolist())
    own = _logprobs(result.logits, drawn)
    logprobs = _logprobs(result.scores, drawn) if warm else np.zeros_like(own)
    flat = [cut(ids, logprobs[i], own[i], ends=ends) for i, ids in enumerate(drawn.tolist())]
    return [flat[start : start + count] for start in range(0, len(flat), count)]


def _seed(prompts: Sequence[Sequence[int]], *, seed: int, first: int) -> int:
    """A seed of its own for each group of prompts, so that no two groups are drawn with the same random numbers."""
    told = repr((seed, first, [[int(token) for token in ids] for ids in prompts]))
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "little") % 2**63


def _logprobs(steps: Sequence[Tensor], drawn: Int[Tensor, "b s"]) -> Float[np.ndarray, "b s"]:
    """Log-probabilities of what was drawn, from the logits of each step."""
    found = [scores.float().log_softmax(-1).gather(-1, drawn[:, i, None]) for i, scores in enumerate(steps)]
    return torch.cat(found, dim=1).cpu().numpy()


@torch.inference_mode()
def can_draw(model: PolicyModel, prompt: Sequence[int]) -> bool:
    """Whether our drawing fits a model: two short replies have the log-probability that the plain model gives them.

    The log says once why not.
    """
    if model.sharing not in ("trees", "flex"):
        logger.warning("replies are drawn by transformers' own generation, since %s", model.sharing_reason)
        return False
    training = model.pretrained.training
    model.pretrained.eval()
    try:
        replies = draw(model, [prompt], 2, sampling=Sampling(max_new_tokens=8), seed=0)[0]
        difference = max(abs(_plain_logprob(model, prompt, reply) - reply.logprob) for reply in replies)
        problem = f"log-probabilities differ by {difference:.1e} from the ordinary computation's"
    except Exception as error:  # another library's attention may fail in any way
        difference, problem = float("inf"), f"it fails ({type(error).__name__}: {str(error).splitlines()[0]})"
    finally:
        model.pretrained.train(training)
    if difference <= _TOLERANCE.get(model.core.dtype, 1e-2):
        return True
    logger.warning("replies are drawn by transformers' own generation, since ours does not fit this model: %s", problem)
    return False


def _plain_logprob(model: PolicyModel, prompt: Sequence[int], reply: Reply) -> float:
    config = model.core.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = model.own_attention
    try:
        ids = torch.tensor([[*prompt, *reply.ids]], device=model.device)
        logprobs = model.core(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        return float(logprobs.gather(-1, ids[0, len(prompt) :, None]).sum())
    finally:
        config._attn_implementation = before
