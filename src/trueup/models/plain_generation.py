"""Drawing replies with transformers' own generation, for models that ours does not fit; and how that is found out."""

import logging
from collections.abc import Sequence

import torch

from trueup.models.generation import Reply, Sampling, draw, ends_of
from trueup.models.policy import PolicyModel

logger = logging.getLogger(__name__)

_TOLERANCE = {torch.float16: 0.05, torch.bfloat16: 0.3}


@torch.inference_mode()
def draw_with_transformers(
    model: PolicyModel, prompts: Sequence[Sequence[int]], count: int, *, sampling: Sampling, seed: int, first: int = 0
) -> list[list[Reply]]:
    """Draw `count` replies to each prompt; as `trueup.models.generation.draw`, for any causal model.

    The seed fixes the draws of a call, but not of each reply by itself.
    """
    core, size = model.core, max(map(len, prompts))
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
        torch.manual_seed((seed * 1_000_003 + first) % 2**63)
        result = core.generate(
            input_ids=grid,
            attention_mask=real,
            do_sample=warm,
            num_return_sequences=count,
            max_new_tokens=sampling.max_new_tokens,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
    steps = core.compute_transition_scores(result.sequences, result.scores, normalize_logits=True)
    drawn, ends = result.sequences[:, size:].tolist(), set(ends_of(model).tolist())
    flat = [_reply(ids, logprobs, ends) for ids, logprobs in zip(drawn, steps.tolist(), strict=True)]
    return [flat[start : start + count] for start in range(0, len(flat), count)]


def _reply(ids: Sequence[int], logprobs: Sequence[float], ends: set[int]) -> Reply:
    stop = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    return Reply(tuple(ids[:stop]), ids[stop - 1] in ends, float(sum(logprobs[:stop])))


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
