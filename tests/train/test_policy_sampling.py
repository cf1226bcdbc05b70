import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_models import make_tokenizer, save_base
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.policies.model import ModelPolicy
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference


@pytest.fixture
def sampler(tmp_path: Path) -> PolicySampler:
    base = save_base(tmp_path / "base", make_tokenizer(eos="</s>", pad="<pad>"))
    known = load_policy_checkpoint(base, device="cpu")
    start = ModelReference(copy.deepcopy(known.model), token_budget=4096)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in known.model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    policy = ModelPolicy(checkpoint=known, name="p", sampling=Sampling(max_new_tokens=6, temperature=0.7))
    return PolicySampler(policy=policy, start=start)


PROMPTS = ["What is the capital of France?", "Name"]


def test_both_log_probabilities_are_those_of_plain_passes(sampler: PolicySampler, tmp_path: Path) -> None:
    drawn = sampler.sample(PROMPTS, 3, seed=2)
    asked, replies = sampler.policy.draw(PROMPTS, 3, seed=2)
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    for ids, group, samples in zip(asked, replies, drawn, strict=True):
        for reply, one in zip(group, samples, strict=True):
            assert (one.tokens, one.finished) == (len(reply.ids), reply.finished)
            whole = torch.tensor([[*ids, *reply.ids]])
            places = torch.arange(len(ids) - 1, whole.shape[1] - 1)
            for model, told in ((before, one.start_logprob), (sampler.policy.checkpoint.model.core, one.logprob)):
                with torch.no_grad():
                    logits = model(whole).logits[0].float().log_softmax(-1)
                assert told == pytest.approx(float(logits[places, list(reply.ids)].sum()), abs=1e-3)
            assert one.logprob != one.start_logprob


def test_the_model_s_mode_is_put_back(sampler: PolicySampler) -> None:
    model = sampler.policy.checkpoint.model
    model.train()
    sampler.sample(PROMPTS, 1, seed=0)
    assert model.training
    model.eval()
    sampler.sample(PROMPTS, 1, seed=0)
    assert not model.training
