"""Random policies and rows of replies for tests."""

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tiny_models import FAMILIES
from trueup.data.branches import BranchRow
from trueup.models.policy import PolicyModel

VOCABULARY = 97


def tiny_policy(
    family: str = "llama", *, sharing: str | None = None, dtype: torch.dtype = torch.float64, **changes: object
) -> PolicyModel:
    """A random policy, always the same; ids 5 to 7 end a reply."""
    torch.manual_seed(0)
    settings = FAMILIES[family] | {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 5}
    core = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings | changes)).to(dtype).eval()
    for module in core.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    core.generation_config.eos_token_id = [5, 6, 7]
    policy = PolicyModel(core, sharing=sharing)
    return policy.eval()


def reply_rows(count: int, *, seed: int = 0, longest: int = 12) -> list[BranchRow]:
    """Rows of one to four replies to prompts of at least one token."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        prompt = int(rng.integers(1, longest))
        lengths = tuple(int(n) for n in rng.integers(1, longest, int(rng.integers(1, 5))))
        rows.append(
            BranchRow(
                tokens=rng.integers(8, VOCABULARY, prompt + sum(lengths)).astype(np.int32),
                prompt_length=prompt,
                branch_lengths=lengths,
                pairs=np.zeros((0, 2), np.int64),
                rank=np.full(len(lengths), -1),
                index=number,
            )
        )
    return rows


def plain_logprobs(policy: PolicyModel, rows: list[BranchRow]) -> torch.Tensor:
    """Log-probabilities of all reply tokens by the plain model, one sequence at a time."""
    config = policy.core.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    found = []
    for row in rows:
        for sequence in row.sequences():
            ids = torch.from_numpy(sequence.astype(np.int64))
            logits = policy.core(ids[None]).logits[0].log_softmax(-1)
            found.append(logits[row.prompt_length - 1 : -1].gather(-1, ids[row.prompt_length :, None])[:, 0])
    config._attn_implementation = before
    return torch.cat(found)
