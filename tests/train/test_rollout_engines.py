"""Two steps of the online trainer with each engine: what is learned from is the policy's own reckoning of it."""

from dataclasses import replace

import pytest
import torch

from endpoints.doubles import Script
from policies import fake_vllm
from tiny_policies import plain_logprobs, tiny_policy
from tiny_training import FORM, TOKENIZER, arguments, largest_difference, weights
from trueup.errors import RecipeError
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.objectives.policy.rloo import RLOO
from trueup.policies.model import ModelPolicy
from trueup.policies.server_engine import ServerEngine, ServerSettings
from trueup.policies.vllm_engine import VllmEngine, VllmSettings
from trueup.rewards.function import FunctionReward
from trueup.train.online_trainer import OnlineTrainer
from trueup.train.prompt_order import Rhythm

PROMPTS = [f"prompt number {i} of the test" for i in range(8)]
LENGTH = FunctionReward(lambda prompts, completions: [float(len(text) % 7) for text in completions], "length")
SAMPLING = Sampling(max_new_tokens=5)


def make(folder, model, engine):
    return OnlineTrainer(
        model,
        arguments(folder, max_steps=2),
        prompts=PROMPTS,
        reward=LENGTH,
        terms=(RLOO(),),
        rhythm=Rhythm(prompts=3, samples=2),
        sampling=SAMPLING,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=200,
        engine=engine,
    )


def policy():
    return tiny_policy(vocab_size=len(TOKENIZER))


def checked(trainer):
    """Let a trainer compare each rollout's behaviour with the plain model's log-probabilities at that moment."""
    seen, gather = [], trainer.collector._gather

    def look(numbers, rows, texts, scores):
        told = torch.cat([row.tokens_of["behaviour"] for row in rows]).double()
        seen.append(float((told - plain_logprobs(trainer.unwrapped, rows).detach()).abs().max()))
        return gather(numbers, rows, texts, scores)

    trainer.collector._gather = look
    return seen


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_steps_with_vllm(tmp_path, monkeypatch, dtype):
    """What vLLM says is kept where it is exact, and made again where its type is coarse."""
    vllm, model = fake_vllm.install(monkeypatch), policy()
    engine = VllmEngine(
        checkpoint=PolicyCheckpoint(model, TOKENIZER, FORM), sampling=SAMPLING, settings=VllmSettings(dtype=dtype)
    )
    trainer = make(tmp_path, model, engine)
    seen, before = checked(trainer), weights(model)
    trainer.train()
    assert len(seen) == 2
    assert max(seen) < 1e-4
    assert trainer.collector._recorded == (dtype == "float32")
    assert vllm.made[0].calls.count("load") == 2
    assert largest_difference(weights(model), before) > 0
    gaps = [line["engine_gap"] for line in trainer.state.log_history if "engine_gap" in line]
    assert len(gaps) == 2
    assert all(gap < 1e-4 for gap in gaps) if dtype == "float32" else all(1e-3 < gap < 0.2 for gap in gaps)


def test_an_engine_that_does_not_follow_is_noticed(tmp_path, monkeypatch, caplog):
    vllm, model = fake_vllm.install(monkeypatch), policy()
    engine = VllmEngine(
        checkpoint=PolicyCheckpoint(model, TOKENIZER, FORM),
        sampling=SAMPLING,
        settings=VllmSettings(dtype="float32", sleep=False),
    )
    monkeypatch.setattr(
        fake_vllm.LoadingModel, "load_weights", lambda self, weights: None
    )  # loads nothing, says nothing
    trainer = make(tmp_path, model, engine)
    seen = checked(trainer)
    trainer.train()
    assert max(seen) < 1e-4  # what is learned from is right all the same
    assert not trainer.collector._recorded
    assert "does not compute with the policy's weights" in caplog.text
    assert vllm.made


def served(folder):
    """A server that draws with the checkpoint that a request names."""

    def answer(payload, number):
        used.append(payload["model"])
        held = load_policy_checkpoint(payload["model"])
        known = ModelPolicy(checkpoint=replace(held, form=FORM), name="served", sampling=SAMPLING)
        (samples,) = known.sample([payload["prompt"]], payload["n"], seed=payload["seed"])
        reasons = ["stop" if one.finished else "length" for one in samples]
        return {
            "choices": [
                {"index": i, "text": one.text, "finish_reason": reason}
                for i, (one, reason) in enumerate(zip(samples, reasons, strict=True))
            ]
        }

    used = []
    return Script(answer), used


def test_two_steps_with_a_server(tmp_path):
    model, (script, used) = policy(), served(tmp_path)
    settings = ServerSettings(
        url="http://host", model="{folder}", folder=str(tmp_path / "served-{number}"), concurrent=1
    )
    known = PolicyCheckpoint(model, TOKENIZER, FORM)
    engine = ServerEngine(checkpoint=known, sampling=SAMPLING, settings=settings, transport=script.transport())
    trainer = make(tmp_path, model, engine)
    seen, before = checked(trainer), weights(model)
    trainer.train()
    assert len(seen) == 2
    assert max(seen) < 1e-4
    assert [name[-1] for name in used] == ["1"] * 3 + ["2"] * 3
    assert largest_difference(weights(model), before) > 0
    assert not any("engine_gap" in line for line in trainer.state.log_history)


def test_a_server_with_old_weights_ends_the_run(tmp_path):
    model, (script, _) = policy(), served(tmp_path)
    known = PolicyCheckpoint(model, TOKENIZER, FORM)
    model.core.save_pretrained(tmp_path / "start")
    TOKENIZER.save_pretrained(tmp_path / "start")
    settings = ServerSettings(url="http://host", model=str(tmp_path / "start"), stale_rollouts=1, concurrent=1)
    engine = ServerEngine(checkpoint=known, sampling=SAMPLING, settings=settings, transport=script.transport())
    trainer = make(tmp_path, model, engine)
    trainer.args.max_steps = 3
    with pytest.raises(RecipeError, match="older than the policy's"):
        trainer.train()
    assert trainer.state.global_step == 2
