"""A run that was killed when it had just decided to end early, or was about to, ends where it would have ended."""

import json
from dataclasses import replace

import pytest

from kills import KilledOnceSaved
from run_files import log, logged, same, tensors, write
from small_policy_runs import LENGTH, watch
from small_policy_runs import recipe as policy_recipe
from trueup.recipes.train_policy import train_policy
from trueup.recipes.train_sft import Demonstrations, TrainSft, train_sft


def killed(train, recipe, step):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, callbacks=[KilledOnceSaved(step)])
    assert not (recipe.output / "model").exists()
    return train(replace(recipe, resume=True))


def evaluated(run):
    """Steps at which the run was evaluated; the finished model is evaluated once more."""
    return [line["step"] for line in log(run) if "eval_loss" in line]


@pytest.fixture(scope="module")
def patient(base, tmp_path_factory):
    """What is watched is the opposite of what is learned, so that patience ends soon."""
    folder = tmp_path_factory.mktemp("patient")
    learned = [{"prompt": f"Fruit {i}:", "completion": " plums and pears" + " egg" * (i % 3)} for i in range(16)]
    data = Demonstrations(
        train=str(write(folder / "train.jsonl", learned)),
        eval=str(write(folder / "eval.jsonl", [one | {"completion": " boiling water"} for one in learned[:6]])),
        cache=folder / "cache",
    )
    recipe = TrainSft(
        model=str(base),
        output=folder / "whole",
        data=data,
        batch_size=4,
        max_steps=8,
        eval_steps=1,
        save_steps=1,
        keep_checkpoints=8,
        warmup=0.0,
        learning_rate=3e-2,
        patience=2,
    )
    train_sft(recipe)
    assert 2 < max(evaluated(recipe.output)) < 8
    return recipe


@pytest.mark.parametrize("steps_before_its_end", [1, 0])
def test_patience_is_not_given_again(patient, steps_before_its_end, tmp_path):
    recipe, last = replace(patient, output=tmp_path / "run"), max(evaluated(patient.output))
    killed(train_sft, recipe, last - steps_before_its_end)
    assert max(evaluated(recipe.output)) == last
    assert same(tensors(recipe.output), tensors(patient.output))


@pytest.mark.parametrize("rule", [{"kl_budget": 0.05}, {"patience": 2}])
def test_a_watched_run_does_not_go_a_step_further(rule, base, tmp_path):
    settings = {"reward": LENGTH, "learning_rate": 2e-2, "max_steps": 12, "samples": 4, "max_new_tokens": 8}
    asked = policy_recipe(base, tmp_path, watch=watch(tmp_path, samples=4, every=2, **rule), save_steps=2, **settings)
    whole = train_policy(asked)
    told = json.loads((asked.output / "stopped.json").read_text())
    assert 0 < told["step"] < 12
    again = replace(asked, output=tmp_path / "again")
    resumed = killed(train_policy, again, told["step"])
    assert resumed.stopped == whole.stopped
    assert json.loads((again.output / "stopped.json").read_text()) == told
    assert len(logged(again.output, "reward")) == told["step"]
    assert same(tensors(again.output), tensors(asked.output))
