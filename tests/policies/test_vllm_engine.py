"""vLLM as engine, against a stand-in that follows its documented behaviour; nothing here runs vLLM itself."""

import os
import sys

import numpy as np
import pytest
import torch

from policies import fake_vllm
from tiny_policies import tiny_policy
from tiny_training import FORM, TOKENIZER
from trueup.data.replies import encode_prompts
from trueup.errors import CheckpointError, MissingExtraError, RecipeError
from trueup.models.generation import Sampling
from trueup.models.live_weights import checkpoint_weights
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.engine import RolloutEngine
from trueup.policies.vllm_engine import VllmEngine, VllmSettings, prompt_seed

PROMPTS = ["one prompt", "another, longer prompt"]


@pytest.fixture
def vllm(monkeypatch):
    return fake_vllm.install(monkeypatch)


def policy(dtype=torch.float32):
    return PolicyCheckpoint(tiny_policy(vocab_size=len(TOKENIZER), dtype=dtype), TOKENIZER, FORM)


def make(checkpoint=None, *, sampling=None, **settings):
    return VllmEngine(
        checkpoint=checkpoint or policy(),
        sampling=sampling or Sampling(max_new_tokens=5),
        settings=VllmSettings(dtype="float32", **settings),
    )


def plain_logprobs(checkpoint, prompt, reply):
    ids = torch.tensor([[*prompt, *reply.ids]])
    config = checkpoint.model.core.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    table = checkpoint.model.core(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    config._attn_implementation = before
    return table.gather(-1, ids[0, len(prompt) :, None])[:, 0].detach().numpy()


def test_without_vllm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r'pip install "trueup\[vllm\]"'):
        make()


def test_replies_are_those_of_the_weights_that_were_pushed(vllm):
    """The log-probabilities that are told are the policy's at temperature 1, whatever the temperature."""
    known = policy()
    engine = make(known, sampling=Sampling(max_new_tokens=8, temperature=2.0))
    assert isinstance(engine, RolloutEngine)
    engine.renew(checkpoint_weights(known.model))
    asked, drawn = engine.draw(PROMPTS, 3, seed=1)
    assert asked == encode_prompts(PROMPTS, tokenizer=TOKENIZER, form=FORM)
    assert [len(replies) for replies in drawn] == [3, 3]
    for prompt, replies in zip(asked, drawn, strict=True):
        assert len({reply.ids for reply in replies}) == 3
        for reply in replies:
            assert np.allclose(reply.policy_logprobs, plain_logprobs(known, prompt, reply), atol=1e-4)
            assert np.isnan(reply.logprob)  # at temperature 2 vLLM does not say


def test_where_a_reply_ends(vllm):
    """The end token stays at the end; one that is drawn in the last place ends the reply, whatever vLLM calls it."""
    known = policy()
    ends = set(range(5, 45))
    known.model.core.generation_config.eos_token_id = sorted(ends)
    with torch.no_grad():  # every token is as likely, and every tenth is an end
        known.model.core.get_output_embeddings().weight.zero_()
    engine = make(known, sampling=Sampling(max_new_tokens=12))
    engine.renew(checkpoint_weights(known.model))
    _, drawn = engine.draw(PROMPTS, 16, seed=0)
    replies = [reply for group in drawn for reply in group]
    assert {reply.finished for reply in replies} == {True, False}
    for reply in replies:
        assert reply.finished == (reply.ids[-1] in ends)
        assert not ends & set(reply.ids[:-1])
        assert len(reply.ids) == len(reply.policy_logprobs) <= 12
        assert reply.finished or len(reply.ids) == 12
    engine.sampling = Sampling(max_new_tokens=1)
    engine.renew(checkpoint_weights(known.model))
    _, drawn = engine.draw(PROMPTS, 40, seed=0)
    assert any(reply.finished for group in drawn for reply in group)  # all called `length`


@pytest.mark.parametrize("sleep", [True, False])
def test_weights_come_before_each_rollout(vllm, sleep):
    known = policy()
    engine = make(known, sleep=sleep)
    with pytest.raises(RuntimeError, match="renew"):
        engine.draw(PROMPTS, 1, seed=0)
    assert not vllm.made  # started only when there are weights
    for _ in range(2):
        engine.renew(checkpoint_weights(known.model))
        engine.draw(PROMPTS, 1, seed=0)
    (llm,) = vllm.made
    once = ["load", "reset", "generate"]
    awake = ["wake weights", "load", "reset", "wake kv_cache", "generate"]
    assert llm.calls == ([*once, "sleep 2", *awake, "sleep 2"] if sleep else once + once)
    if sleep:
        with pytest.raises(RuntimeError, match="renew"):
            engine.draw(PROMPTS, 1, seed=0)


def test_other_weights_give_other_replies_and_the_same_the_same(vllm):
    known = policy()
    engine = make(known)

    def drawn(seed):
        engine.renew(checkpoint_weights(known.model))
        return engine.draw(PROMPTS, 2, seed=seed)[1]

    before = drawn(0)
    assert before == drawn(0)
    assert before != drawn(1)
    with torch.no_grad():
        known.model.core.get_output_embeddings().weight.neg_()
    after = drawn(0)
    assert after != before
    asked = encode_prompts(PROMPTS, tokenizer=TOKENIZER, form=FORM)
    assert np.allclose(after[0][0].policy_logprobs, plain_logprobs(known, asked[0], after[0][0]), atol=1e-4)


def test_greedy_replies_are_drawn_once_and_repeated(vllm):
    known = policy()
    engine = make(known, sampling=Sampling(max_new_tokens=5, temperature=0))
    engine.renew(checkpoint_weights(known.model))
    _, drawn = engine.draw(PROMPTS, 3, seed=0)
    assert [len(set(replies)) for replies in drawn] == [1, 1]
    assert [len(replies) for replies in drawn] == [3, 3]
    assert drawn[0][0].logprob == 0.0


def test_a_weight_that_is_not_given_is_no_silent_noise(vllm):
    known = policy()
    with pytest.raises(CheckpointError, match="lm_head"):
        make(known).renew((name, value) for name, value in checkpoint_weights(known.model) if "lm_head" not in name)


def test_nothing_of_the_process_is_changed(vllm, monkeypatch):
    """Neither a launcher's variables, which others read, nor torch's generator."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    known = policy()
    before, generator = dict(os.environ), torch.get_rng_state()
    make(known).renew(checkpoint_weights(known.model))
    assert dict(os.environ) == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_device_without_prompts_draws_nothing(vllm):
    known = policy()
    engine = make(known)
    engine.renew(checkpoint_weights(known.model))
    assert engine.draw([], 2, seed=0) == ([], [])
    engine.renew(checkpoint_weights(known.model))
    engine.close()
    with pytest.raises(RuntimeError, match="renew"):
        engine.draw(PROMPTS, 1, seed=0)


def test_seeds_fit_and_differ():
    seeds = {prompt_seed([1, 2, i], seed=s) for i in range(50) for s in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**62 for seed in seeds)


@pytest.mark.parametrize("wrong", [{"gpu_memory": 0.0}, {"gpu_memory": 1.0}, {"max_model_len": 1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        VllmSettings(**wrong)
