"""`trueup train modpo`, from preferences to the front: what it leaves, what a stop costs, and what it refuses."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

import small_modpo
from run_files import write
from small_modpo import EVALUATORS, SCORED, preferences, small_recipe, small_watch
from trueup.cli import main
from trueup.errors import DataError, OutputError, RecipeError
from trueup.measure.pareto import hypervolume
from trueup.objectives.preference.dpo import DPO
from trueup.recipes import train_modpo as module
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_modpo import train_modpo
from trueup.recipes.train_preference import train_preference


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    SCORED.clear()


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """A watched sweep without a stop; nobody may change it."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = small_recipe(
        base,
        folder,
        weights=[[0.95, 0.05], [0.1, 0.9]],
        watch=small_watch(folder, prompts=6, samples=16),
        evaluators=EVALUATORS,
        hypervolume_from=[-0.1, -0.1],
        beta=0.03,
        max_steps=30,
        learning_rate=1e-2,
    )
    SCORED.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEUP_CACHE", str(folder / "cache"))
        found = train_modpo(recipe)
        scored = list(SCORED)
        cached = len(list((folder / "cache" / "logprobs").iterdir()))
    return recipe, found, scored, cached


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights_in(one), weights_in(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_front_moves_with_the_weights(whole):
    _, found, _, _ = whole
    start, first, second = found.front["points"]
    plums, pears = ([point["rewards"][label]["value"] for point in (first, second)] for label in ("plums", "pears"))
    assert plums[0] > max(plums[1], start["rewards"]["plums"]["value"])
    assert pears[1] > max(pears[0], start["rewards"]["pears"]["value"])
    assert abs(start["kl"]["value"]) < 1e-5
    assert min(first["kl"]["value"], second["kl"]["value"]) > 0.5


def test_what_it_leaves(whole):
    recipe, found, _, _ = whole
    front = json.loads((recipe.output / "front.json").read_text())
    assert front == found.front
    assert front["objectives"] == ["plums", "pears"]
    assert [point["name"] for point in front["points"]] == ["start", "weights-0.95-0.05", "weights-0.1-0.9"]
    assert [point["weights"] for point in front["points"]] == [None, [0.95, 0.05], [0.1, 0.9]]
    assert [point["model"] for point in front["points"][1:]] == [str(folder) for folder in found.models.values()]
    means = np.array([[one["value"] for one in point["rewards"].values()] for point in front["points"][1:]])
    volume = front["hypervolume"]["value"]
    assert volume["value"] == pytest.approx(hypervolume(means, np.array([-0.1, -0.1])))
    assert volume["low"] <= volume["value"] <= volume["high"]
    assert volume["n"] == 6
    page = (recipe.output / "report.html").read_text()
    assert "The front between plums and pears" in page
    lines = found.summary().splitlines()
    assert len(lines) == 4
    assert "plums" in lines[1]
    assert lines[-1].startswith("hypervolume")


def test_means_are_of_the_kept_responses(whole):
    """The numbers of the page, from the texts beside it."""
    recipe, found, _, _ = whole
    for point in found.front["points"]:
        texts = json.loads((recipe.output / "watch" / f"{point['name']}.json").read_text())["texts"]
        flat = [text for group in texts for text in group]
        assert len(flat) == 6 * 16
        assert point["rewards"]["plums"]["value"] == pytest.approx(1.4 * np.mean(["plums" in text for text in flat]))


def test_margins_and_the_reference_are_computed_once(whole):
    _, _, scored, cached = whole
    given = {(one["prompt"], one[side]) for one in preferences(20) for side in ("chosen", "rejected")}
    times = Counter(scored)
    watched = {prompt for prompt, _ in scored} - {prompt for prompt, _ in given}
    assert all(times[one] == 1 for one in given)
    assert watched == {f"Fruit {i}:" for i in range(50, 56)}
    assert cached == 1


def test_each_policy_is_what_train_preference_makes(whole, tmp_path):
    """The same run with the reward itself in place of kept scores: equal weights."""
    recipe, found, _, _ = whole
    run = recipe.runs["weights-0.1-0.9"]
    alone = replace(run, output=tmp_path / "alone", reward={"pears": EVALUATORS["pears"]}, resume=False)
    assert same(train_preference(alone).model, found.models["weights-0.1-0.9"])


class Stop(TrainerCallback):
    """Stops the second training in its middle, like Ctrl-C."""

    trainings = 0

    def on_train_begin(self, args, state, control, **_):
        self.trainings += 1

    def on_step_begin(self, args, state, control, **_):
        if self.trainings == 2 and state.global_step == 1:
            raise KeyboardInterrupt


def test_a_stop_costs_only_what_was_missing(base, tmp_path, monkeypatch):
    for name in ("stopped", "whole"):
        (tmp_path / name).mkdir()
    stopped, whole = (
        small_recipe(base, tmp_path / name, save_steps=1, max_steps=2, learning_rate=1e-2)
        for name in ("stopped", "whole")
    )
    unstopped = train_modpo(whole)
    asked = list(SCORED)
    SCORED.clear()
    done = []

    def noting(run: TrainPreference, *, callbacks=()):
        done.append((run.output.name, run.resume))
        return train_preference(run, callbacks=callbacks)

    monkeypatch.setattr(module, "train_preference", noting)
    with pytest.raises(KeyboardInterrupt):
        train_modpo(stopped, callbacks=[Stop()])
    with pytest.raises(OutputError, match="--resume"):
        train_modpo(stopped)
    again = replace(stopped, resume=True)
    found = train_modpo(again)
    assert done == [("weights-0.9-0.1", False), ("weights-0.2-0.8", False), ("weights-0.2-0.8", True)]
    assert asked == SCORED
    assert all(same(found.models[name], unstopped.models[name]) for name in found.models)
    train_modpo(again)
    assert len(done) == 3
    with pytest.raises(RecipeError, match="beta"):
        train_modpo(replace(again, beta=0.5))


def test_margins_may_come_from_preferences(base, tmp_path):
    """A margin model by DPO first, whose implicit reward is what the policy's loss holds."""
    liked = write(tmp_path / "pears.jsonl", preferences(20, chosen="pears"))
    recipe = small_recipe(
        base, tmp_path, reward=None, margin_data={"pears": str(liked)}, margin_beta=0.5, weights=[[0.25, 0.75]]
    )
    recipe = replace(recipe, lora=LoraRecipe(rank=2, alpha=4), batch_size=20, max_steps=2, learning_rate=1e-2)
    train_modpo(recipe)
    made = yaml.safe_load((recipe.output / "margin-models" / "pears" / "recipe.yaml").read_text())
    assert made["method"] == {"name": "dpo", "beta": 0.5}
    assert recipe.margin_runs["pears"].method == DPO(beta=0.5)
    kept = json.loads((recipe.output / "margins" / "pears" / "reward.json").read_text())
    assert kept["place"] == f"implicit:{recipe.output / 'margin-models' / 'pears'}"
    reward = module.load_reward(kept["place"])
    rows = preferences(20)
    margins = reward.score([row["prompt"] for row in rows], [[row["chosen"], row["rejected"]] for row in rows])
    held = margins.reward.reshape(-1, 2) @ [0.75, -0.75]
    assert np.ptp(held) > 0.01
    first = json.loads((recipe.output / "weights-0.25-0.75" / "metrics.jsonl").read_text().splitlines()[0])
    # before the first step, where the policy is its reference
    assert first["loss/modpo"] == pytest.approx(np.log1p(np.exp(held / 0.25)).mean(), rel=1e-4)


def test_a_margin_that_has_changed_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    judge = tmp_path / "modpo_judge.py"
    judge.write_text("def f(prompts, completions):\n    return [1.0 for _ in completions]\n")
    recipe = small_recipe(base, tmp_path, reward={"j": "modpo_judge:f"}, weights=[[0.5, 0.5]])
    train_modpo(recipe)
    judge.write_text(judge.read_text().replace("1.0", "2.0"))
    with pytest.raises(RecipeError, match="before it was changed or exchanged"):
        train_modpo(replace(recipe, resume=True))


def test_what_cannot_be_used_stops_the_sweep_before_anything_is_written(base, tmp_path):
    watch = small_watch(tmp_path)
    wrong = small_recipe(base, tmp_path, watch=watch, evaluators=EVALUATORS | {"plums": "small_modpo:nothing"})
    with pytest.raises(RecipeError, match="small_modpo"):
        train_modpo(wrong)
    with pytest.raises(DataError, match="no such file"):
        train_modpo(replace(wrong, watch=replace(watch, prompts=str(tmp_path / "none.jsonl")), evaluators=EVALUATORS))
    assert not wrong.output.exists()


def test_kept_responses_that_are_damaged_are_named(whole, tmp_path):
    recipe, _, _, _ = whole
    path = tmp_path / "modpo" / "watch" / "start.json"
    path.parent.mkdir(parents=True)
    for text, words in (("{", "cannot be read"), ('{"texts": [], "log_ratios": []}', "holds responses to 0 prompts")):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            module.measure_front(replace(recipe, output=tmp_path / "modpo"), {})


def test_from_the_command_line(base, tmp_path, capsys, caplog):
    data = write(tmp_path / "t.jsonl", preferences(8))
    words = ["train", "modpo", "--model", base, "--output", tmp_path / "run", "--data.train", data, "--max_steps", 1]
    words += ["--reward.pears", "small_modpo:pears", "--weights", "[[0.04, 0.96]]", "--data.max_length", 64]
    assert main([str(word) for word in words]) == 0
    assert capsys.readouterr().out.strip() == f"weights-0.04-0.96: {tmp_path / 'run' / 'weights-0.04-0.96' / 'model'}"
    assert "margins are divided by the first weight" in caplog.text
    assert small_modpo.SCORED
    bad = [str(word) for word in words[:-4]] + ["--weights", "[[0.5, 0.6]]"]
    assert main(bad) == 2
    assert "sum to 1.1" in capsys.readouterr().err
