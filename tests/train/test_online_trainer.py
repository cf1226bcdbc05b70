"""Learning from one's own samples: the step by hand, resumption to the bit, rewards that fail, warnings."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tiny_policies import plain_logprobs
from tiny_policies import tiny_policy as random_policy
from tiny_training import FORM, TOKENIZER, arguments, largest_difference, weights
from trueup.endpoints.failure import EndpointError
from trueup.errors import NonFiniteError, RecipeError
from trueup.functional.advantages import leave_one_out
from trueup.models.generation import Sampling
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.policy.regularizers.forward_kl_prior import ForwardKLPrior
from trueup.objectives.policy.rloo import RLOO
from trueup.objectives.policy.superhf import SuperHF
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.rewards.function import FunctionReward
from trueup.rewards.shaping import Shaping
from trueup.train.online_trainer import ROLLOUTS, OnlineTrainer
from trueup.train.prompt_order import Rhythm
from trueup.train.references import ModelReference

PROMPTS = [f"prompt number {i} of the test" for i in range(12)]
LENGTH = FunctionReward(lambda prompts, completions: [float(len(text) % 7) for text in completions], "length")


def tiny_policy(**changes):
    """A random policy that knows every token of the tokenizer."""
    return random_policy(vocab_size=len(TOKENIZER), **changes)


def make(folder, model=None, *, reward=LENGTH, terms=None, rhythm=None, reference=None, callbacks=(), **changes):
    """A trainer whose model is float64 throughout."""
    settings = {name: changes.pop(name) for name in ("kl_coefficient", "shaping") if name in changes}
    return OnlineTrainer(
        model or tiny_policy(),
        arguments(folder, **changes),
        prompts=PROMPTS,
        reward=reward,
        terms=terms or (RLOO(),),
        rhythm=rhythm or Rhythm(prompts=4, samples=3),
        sampling=Sampling(max_new_tokens=6),
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=200,
        reference=reference,
        callbacks=callbacks,
        **settings,
    )


def held(**changes) -> ModelReference:
    """Another policy than the one that is trained."""
    model = tiny_policy(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return ModelReference(model, token_budget=200)


class Recording:
    """A reward that remembers what it was asked."""

    name = "recording"

    def __init__(self, inner=LENGTH):
        self.inner, self.calls = inner, []

    def score(self, prompts, responses):
        self.calls.append((list(prompts), [list(group) for group in responses]))
        return self.inner.score(prompts, responses)


def test_the_step_by_hand(tmp_path):
    """Plain log-probabilities of the drawn tokens, leave-one-out of reward minus KL, one value a response."""
    trainer = make(tmp_path, reference=held(), kl_coefficient=0.3)
    model = trainer.collector.policy.checkpoint.model
    rows = trainer._rows_of_step(model)
    loss = float(trainer.training_step(model, {"step": 0}))
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = tiny_policy(sharing="separate")
    now = plain_logprobs(plain, rows)
    before = plain_logprobs(held(sharing="separate").model, rows)
    lengths = [n for row in rows for n in row.branch_lengths]
    scores = torch.cat([row.branches_of["reward"] for row in rows]).double()
    kl = torch.stack([part.sum() for part in torch.split((now - before).detach(), lengths)])
    prompt = torch.repeat_interleave(torch.arange(4), 3)
    advantage = leave_one_out(scores - 0.3 * kl, prompt)
    total = torch.stack([part.sum() for part in torch.split(now, lengths)])
    by_hand = -(advantage * total).mean()
    by_hand.backward()
    # at a ratio of one the clipped surrogate is minus the advantage, and its gradient that of the log-probability
    assert loss == pytest.approx(-float(advantage.mean()), abs=1e-5)
    expected = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    assert largest_difference(gradients, expected) < 1e-4 * max(float(g.abs().max()) for g in expected.values())


def test_what_is_scored_is_what_was_drawn(tmp_path):
    reward = Recording()
    trainer = make(tmp_path, reward=reward, max_steps=2)
    trainer.train()
    assert len(reward.calls) == 2
    for prompts, responses in reward.calls:
        assert [len(group) for group in responses] == [3] * 4
        assert set(prompts) <= set(PROMPTS)
    assert set(reward.calls[0][0]).isdisjoint(reward.calls[1][0])


def test_a_rollout_is_learned_from_as_often_as_is_asked(tmp_path):
    reward = Recording()
    rhythm = Rhythm(prompts=4, samples=2, passes=2, minibatches=2)
    trainer = make(tmp_path, reward=reward, rhythm=rhythm, max_steps=8)
    trainer.train()
    assert len(reward.calls) == 2


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    def end(seed):
        trainer = make(tmp_path, max_steps=2, seed=seed)
        trainer.train()
        return weights(trainer.model)

    assert largest_difference(end(0), end(0)) == 0.0
    assert largest_difference(end(0), end(1)) > 0.0


@pytest.mark.parametrize("stop", [2, 3])
def test_resuming_equals_not_having_stopped(tmp_path, stop):
    """At a rollout's end, and in its middle, where what was drawn must be kept."""
    rhythm = Rhythm(prompts=4, samples=2, minibatches=2)
    options = {"rhythm": rhythm, "max_steps": 5, "save_strategy": "steps", "save_steps": 1}
    options |= {"kl_coefficient": 0.1}
    whole = make(tmp_path / "whole", reference=held(), **options)
    whole.train()
    checkpoint = tmp_path / "whole" / f"checkpoint-{stop}"
    assert (checkpoint / ROLLOUTS).is_file() == bool(stop % 2)
    again = make(tmp_path / "again", reference=held(), **options)
    again.train(resume_from_checkpoint=str(checkpoint))
    assert largest_difference(weights(again.model), weights(whole.model)) == 0.0


PPO_TERMS = (PPO(whiten_advantages=False), ValueLoss(clip=None))


def test_ppo_learns_values_and_resumes_in_the_middle_of_a_rollout(tmp_path):
    rhythm = Rhythm(prompts=4, samples=2, passes=2)
    options = {"terms": PPO_TERMS, "rhythm": rhythm, "max_steps": 6, "save_strategy": "steps", "save_steps": 1}
    whole = make(tmp_path / "whole", **options)
    whole.train()
    errors = [line["value_error"] for line in whole.state.log_history if "value_error" in line]
    assert errors[1] < errors[0]  # the second pass over the same returns
    again = make(tmp_path / "again", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert largest_difference(weights(again.model), weights(whole.model)) == 0.0
    assert "value_head.weight" in weights(whole.model)
    assert not any("value" in name for name in load_file(tmp_path / "whole" / "checkpoint-6" / "model.safetensors"))


def test_entropy_and_forward_kl_reach_their_terms(tmp_path):
    terms = (RLOO(), EntropyBonus(coefficient=0.1), ForwardKLPrior(coefficient=0.2))
    trainer = make(tmp_path, terms=terms, reference=held(), max_steps=1)
    trainer.train()
    logged = next(line for line in trainer.state.log_history if "reward" in line)
    assert logged["loss/forward_kl_prior"] > 0
    assert logged["loss/entropy"] < 0


def test_only_kept_responses_are_learned_from(tmp_path):
    trainer = make(tmp_path, terms=(SuperHF(),))
    rows = trainer._rows_of_step(trainer.model)
    assert [len(row.branch_lengths) for row in rows] == [1] * 4


def test_a_server_that_fails_stops_the_run_with_everything_saved(tmp_path):
    class Failing(Recording):
        def score(self, prompts, responses):
            if len(self.calls) == 2:
                raise EndpointError("no answer", url="http://reward", attempts=3)
            return super().score(prompts, responses)

    trainer = make(tmp_path, reward=Failing(), max_steps=5)
    with pytest.raises(EndpointError, match="no answer"):
        trainer.train()
    assert trainer.state.global_step == 2
    saved = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert saved["global_step"] == 2
    whole = make(tmp_path / "whole", max_steps=5)
    whole.train()
    again = make(tmp_path / "again", max_steps=5)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert largest_difference(weights(again.model), weights(whole.model)) == 0.0


def test_a_reward_that_is_not_a_number_stops_the_run(tmp_path):
    class Broken(Recording):
        def score(self, prompts, responses):
            found = super().score(prompts, responses)
            return replace(found, reward=np.where(np.arange(len(found.reward)) == 5, np.nan, found.reward))

    with pytest.raises(NonFiniteError, match="recording gave nan to"):
        make(tmp_path, reward=Broken()).train()


def test_zero_is_a_score(tmp_path, caplog):
    zero = FunctionReward(lambda prompts, completions: [0.0 for _ in completions], "zero")
    trainer = make(tmp_path, reward=zero, max_steps=1)
    before = weights(trainer.model)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert largest_difference(before, weights(trainer.model)) == 0.0  # equal rewards teach nothing
    assert "equal rewards" in caplog.text
    logged = next(line for line in trainer.state.log_history if "reward" in line)
    assert logged["reward"] == 0.0
    assert logged["frac_reward_zero_std"] == 1.0


def test_what_is_cut_is_warned_of_and_punished(tmp_path, caplog):
    model = tiny_policy()
    model.core.generation_config.eos_token_id = [96]
    trainer = make(tmp_path, model, shaping=Shaping(missing_eos_penalty=5.0), max_steps=1)
    with caplog.at_level(logging.WARNING):
        rows = trainer._rows_of_step(model)
    cut = torch.cat([~row.branches_of["finished"] for row in rows])
    shaped = torch.cat([row.branches_of["reward"] for row in rows])
    assert bool((shaped[cut] < 2.0).all())
    assert ("were cut at 6 tokens" in caplog.text) == bool(cut.all())


def test_a_negative_kl_is_warned_of(tmp_path, caplog):
    """Responses of the reference itself, compared with a policy that makes them less likely than it does."""
    trainer = make(tmp_path, reference=held(), kl_coefficient=0.1, rhythm=Rhythm(prompts=12, samples=8))
    original = trainer.collector._compare

    def swapped(rows):
        found = original(rows)
        return [replace(r, tokens_of={**r.tokens_of, "reference": r.tokens_of["behaviour"] + 1.0}) for r in found]

    trainer.collector._compare = swapped
    with caplog.at_level(logging.WARNING):
        trainer._rows_of_step(trainer.model)
    assert "which no true KL can be" in caplog.text


def test_what_a_method_needs_is_asked_for(tmp_path):
    with pytest.raises(RecipeError, match="needs a reference"):
        make(tmp_path, kl_coefficient=0.1)
    with pytest.raises(RecipeError, match="max_steps must be positive"):
        make(tmp_path, max_steps=-1)
