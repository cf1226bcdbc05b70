"""Each method, anchor and rule of `trueup train policy` in a small run."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from run_files import logged, same, tensors
from small_policy_runs import LENGTH, REMAINDER, documented, names_logged, recipe, watch
from trueup.anchors import ElasticReset, ExponentialAverage, Soup
from trueup.objectives import GRPO, PPO, SuperHF
from trueup.objectives.policy.regularizers.forward_kl_k3 import ForwardKLk3
from trueup.objectives.policy.regularizers.forward_kl_prior_sum import ForwardKLPriorSum
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.recipes import runs
from trueup.recipes import train_policy as module
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_policy import train_policy
from trueup.train.step import term_name

# Methods


METHODS = {
    "ppo": (PPO(), [ValueLoss()]),
    "grpo": (GRPO(), [ForwardKLk3()]),
    "superhf": (SuperHF(), [ForwardKLPriorSum()]),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_with_the_terms_of_their_papers(name, base, tmp_path):
    method, terms = METHODS[name]
    finished = train_policy(recipe(base, tmp_path, method=method, regularizers=terms, passes=2))
    for term in (method, *terms):
        assert len(logged(tmp_path / "run", f"loss/{term_name(term)}")) == 2
    assert not same(tensors(tmp_path / "run"), load_file(base / "model.safetensors"))
    assert (finished.model / "value_head.safetensors").is_file() == (name == "ppo")
    _, info = AutoModelForCausalLM.from_pretrained(finished.model, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert {one for one in names_logged(tmp_path / "run") if not re.match("train_|total_flos", one)} <= documented()


def test_the_value_head_may_have_a_learning_rate_of_its_own(base, tmp_path):
    asked = recipe(base, tmp_path, method=PPO(), regularizers=[ValueLoss()], max_steps=1, save_steps=1)
    for name, rate in (("policy's", None), ("same", 1e-2), ("none", 1e-20)):
        train_policy(replace(asked, output=tmp_path / name, value_learning_rate=rate))
    heads = [load_file(tmp_path / name / "model" / "value_head.safetensors") for name in ("policy's", "same", "none")]
    assert same(heads[0], heads[1])
    assert float(heads[0]["weight"].abs().max()) == pytest.approx(1e-2, rel=1e-3)  # Adam's first step
    assert float(heads[2]["weight"].abs().max()) < 1e-15
    assert same(tensors(tmp_path / "policy's"), tensors(tmp_path / "none"))  # a head at zero pushes no state
    assert (tmp_path / "same" / "checkpoint-1" / "value_head.safetensors").is_file()


@pytest.mark.parametrize("anchor", [None, ExponentialAverage(decay=0.5)])
def test_with_an_adapter_the_reference_is_the_model_without_it(anchor, base, tmp_path, monkeypatch):
    made = []
    original = module.new_policy
    for place in (module, runs):
        monkeypatch.setattr(place, "new_policy", lambda *args, **options: made.append(1) or original(*args, **options))
    asked = recipe(base, tmp_path, lora=LoraRecipe(rank=2, alpha=8), watch=watch(tmp_path), anchor=anchor)
    finished = train_policy(asked)
    assert len(made) == (1 if anchor is None else 2)  # an average needs a place of its own
    assert (finished.model / "adapter_model.safetensors").is_file()
    assert not (finished.model / "model.safetensors").exists()
    assert logged(tmp_path / "run", "kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(logged(tmp_path / "run", "kl")[1]) > 1e-4
    assert abs(logged(tmp_path / "run", "watch/kl")[-1]) > 1e-4


def test_ppo_with_an_adapter_keeps_both(base, tmp_path):
    asked = recipe(base, tmp_path, lora=LoraRecipe(rank=2), method=PPO(), regularizers=[ValueLoss()], max_steps=1)
    finished = train_policy(asked)
    names = {path.name for path in finished.model.iterdir()}
    assert names >= {"adapter_model.safetensors", "value_head.safetensors"}
    assert not any("value" in name for name in load_file(finished.model / "adapter_model.safetensors"))


def test_from_scratch_everything_is_measured_from_the_weights_that_were_drawn(base, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((base / name).read_bytes())
    train_policy(recipe(bare, tmp_path, from_scratch=True, watch=watch(tmp_path), max_steps=1))
    assert logged(tmp_path / "run", "kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert logged(tmp_path / "run", "watch/kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(logged(tmp_path / "run", "watch/kl")[1]) > 1e-4


def test_rewards_are_summed_with_their_weights(base, tmp_path):
    one = train_policy(recipe(base, tmp_path, max_steps=1)).metrics["reward"]
    other = replace(recipe(base, tmp_path, max_steps=1), output=tmp_path / "other", reward=LENGTH)
    both = {"reward": {"a": REMAINDER, "b": LENGTH}, "reward_weights": [2.0, -0.5], "output": tmp_path / "both"}
    summed = train_policy(recipe(base, tmp_path, max_steps=1, **both)).metrics["reward"]
    assert summed == pytest.approx(2.0 * one - 0.5 * train_policy(other).metrics["reward"])
    plain = {"reward": [REMAINDER, LENGTH], "output": tmp_path / "plain"}
    plain_sum = train_policy(recipe(base, tmp_path, max_steps=1, **plain)).metrics["reward"]
    assert plain_sum == pytest.approx(one + train_policy(replace(other, output=tmp_path / "c")).metrics["reward"])


# Anchors


def test_an_average_without_memory_is_the_policy_of_the_last_step(base, tmp_path):
    frozen = recipe(base, tmp_path, max_steps=3)
    train_policy(frozen)
    train_policy(replace(frozen, output=tmp_path / "ema", anchor=ExponentialAverage(decay=0.0)))
    assert logged(tmp_path / "ema", "kl") == pytest.approx([0.0] * 3, abs=1e-5)
    assert min(map(abs, logged(tmp_path / "run", "kl")[1:])) > 1e-3


def test_an_elastic_reset_that_keeps_all_goes_back_to_the_start(base, tmp_path):
    """With an average that never moves from the start, each jump is one to the start."""
    asked = recipe(base, tmp_path, anchor=ElasticReset(period=2, decay=1.0), save_steps=1)
    train_policy(asked)
    assert same(tensors(tmp_path / "run"), load_file(base / "model.safetensors"))
    between = load_file(tmp_path / "run" / "checkpoint-1" / "model.safetensors")
    assert not same(between, tensors(tmp_path / "run"))


def test_a_soup_of_one_is_the_start_and_of_the_other_is_the_other(base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in base.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    known = load_file(base / "model.safetensors")
    moved = {name: value + 0.05 * torch.randn(value.shape) for name, value in known.items()}
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    asked = recipe(base, tmp_path)
    runs = {"run": {}, "one": {"anchor": Soup(other=str(other), alpha=1.0)}, "far": {"reference": str(other)}}
    runs["zero"] = {"anchor": Soup(other=str(other), alpha=0.0)}
    for name, changes in runs.items():
        train_policy(replace(asked, output=tmp_path / name, **changes))
    assert same(tensors(tmp_path / "one"), tensors(tmp_path / "run"))
    assert same(tensors(tmp_path / "zero"), tensors(tmp_path / "far"))
    assert logged(tmp_path / "far", "kl")[0] > 0.01


# Watching


def test_a_budget_of_kl_stops_the_run(base, tmp_path):
    asked = recipe(base, tmp_path, max_steps=6, learning_rate=3e-2, watch=watch(tmp_path, kl_budget=0.05, every=2))
    finished = train_policy(asked)
    stopped = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert stopped["rule"] == "KLBudget"
    assert stopped["step"] in (2, 4)
    assert len(logged(tmp_path / "run", "reward")) == stopped["step"]
    assert f"stopped early: {finished.stopped}" in finished.summary()
    assert logged(tmp_path / "run", "watch/kl")[-1] >= 0.05


def test_gold_that_falls_stops_the_run(base, tmp_path):
    settings = {"reward": LENGTH, "learning_rate": 2e-2, "max_steps": 12, "samples": 4, "max_new_tokens": 8}
    asked = recipe(base, tmp_path, watch=watch(tmp_path, patience=2, samples=4, every=2), **settings)
    finished = train_policy(asked)
    assert finished.stopped is not None
    assert json.loads((tmp_path / "run" / "stopped.json").read_text())["rule"] == "GoldPeaked"
    assert len(logged(tmp_path / "run", "reward")) < 12


def test_the_best_checkpoint_is_kept(base, tmp_path, monkeypatch):
    """Gold is best at the second of five looks; rotation, which keeps two checkpoints, spares that one."""
    means = iter([0.0, 2.0, 1.0, 1.0, 1.0])

    class Planned:
        name = "planned"

        def score(self, prompts, responses):
            scores = module.load_reward(LENGTH).score(prompts, responses)
            return replace(scores, reward=scores.reward * 0 + next(means))

    original = module.load_reward
    monkeypatch.setattr(module, "load_reward", lambda name, **o: Planned() if name == "GOLD" else original(name, **o))
    asked = recipe(base, tmp_path, max_steps=4, save_steps=1, keep_checkpoints=2, watch=watch(tmp_path, gold="GOLD"))
    train_policy(asked)
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best == {"step": 1, "gold": 2.0, "checkpoint": "checkpoint-1"}
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-4"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint-1") is not None
