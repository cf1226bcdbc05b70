"""The recipe of a sweep: what it makes of its settings, and what it refuses."""

from pathlib import Path

import pytest

from small_modpo import EVALUATORS, small_recipe, small_watch
from trueup.errors import RecipeError
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.modpo import MODPO
from trueup.recipes.config import dump, load
from trueup.recipes.modpo_settings import TrainModpo

BASE = Path("base")
FILE = Path(__file__).resolve().parents[2] / "recipes" / "modpo.yaml"


def test_each_weighting_is_a_run_of_train_preference(tmp_path):
    recipe = small_recipe(
        BASE,
        tmp_path,
        margin_data={"safe": "safe.jsonl"},
        margin_beta=0.3,
        weights=[[0.5, 0.2, 0.3], [1, 0, 0]],
        seed=4,
    )
    runs = recipe.runs
    assert list(runs) == ["weights-0.5-0.2-0.3", "weights-1-0-0"]
    first, second = runs.values()
    assert first.method == MODPO(beta=0.1, weight=0.5)
    assert first.weights == [0.2, 0.3]
    assert second.weights == [0, 0]
    assert list(first.rewards) == ["pears", "safe"] == recipe.others
    assert first.output == recipe.output / "weights-0.5-0.2-0.3"
    assert (first.seed, first.learning_rate, first.data) == (4, 1e-3, recipe.data)
    (margin,) = recipe.margin_runs.values()
    assert (margin.method, margin.data.train, margin.data.max_length) == (DPO(beta=0.3), "safe.jsonl", 64)
    assert recipe.places["safe"] == f"implicit:{margin.output}"


def test_objectives_are_named_by_their_evaluators(tmp_path):
    assert small_recipe(BASE, tmp_path).objectives == ["preferences", "pears"]
    turned = dict(reversed(EVALUATORS.items()))
    assert small_recipe(BASE, tmp_path, evaluators=turned, watch=small_watch(tmp_path)).objectives == ["plums", "pears"]


def test_weights_may_be_rounded(tmp_path):
    third = small_recipe(BASE, tmp_path, reward=["a=q:a", "b=q:b"], weights=[[1 / 3, 1 / 3, 1 - 2 / 3]])
    assert list(third.runs) == ["weights-0.333333-0.333333-0.333333"]


REFUSED = {
    "another sum": ({"weights": [[0.5, 0.6]]}, r"sum to 1.1, not to 1; divide"),
    "nothing trained on": ({"weights": [[0, 1]]}, "train on another objective's preferences"),
    "too few": ({"weights": [[1.0]]}, r"2 are needed, one each for the trained objective, pears"),
    "none": ({"weights": []}, "names no policy"),
    "negative": ({"weights": [[1.5, -0.5]]}, r"each must lie in \[0, 1\]"),
    "not a number": ({"weights": [[float("nan"), 0.5]]}, r"each must lie in \[0, 1\]"),
    "twice": ({"weights": [[0.5, 0.5], [0.5, 0.5]]}, "weights-0.5-0.5 is named twice"),
    "no other objective": ({"reward": None, "weights": [[1.0]]}, "no other objective is named"),
    "one label for two": ({"margin_data": {"pears": "f"}}, "both a reward and margin_data"),
    "a beta for nothing": ({"margin_beta": 0.5}, "margin_beta does nothing"),
    "no such beta": ({"beta": 0.0}, "beta"),
    "no such margin beta": (
        {"reward": None, "margin_data": {"pears": "f"}, "margin_beta": 0.0},
        "beta must be positive",
    ),
    "evaluators alone": ({"evaluators": EVALUATORS}, "add watch.prompts"),
    "hypervolume of nothing": ({"hypervolume_from": [0.0, 0.0]}, "nothing is watched"),
    "from scratch": ({"from_scratch": True}, "leave out from_scratch"),
    "patience without eval": ({"patience": 1}, "patience needs data.eval"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(tmp_path, case):
    changes, words = REFUSED[case]
    with pytest.raises(RecipeError, match=words):
        small_recipe(BASE, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "add evaluators"),
        ({"evaluators": {"pears": "q:a"}}, "one more"),
        ({"evaluators": {"a": "q:a", "b": "q:b"}}, "it needs one for each of pears"),
        ({"evaluators": EVALUATORS, "hypervolume_from": [0.0]}, "one value each for plums, pears"),
    ],
)
def test_a_watch_needs_an_evaluator_of_each_objective(tmp_path, changes, words):
    with pytest.raises(RecipeError, match=words):
        small_recipe(BASE, tmp_path, watch=small_watch(tmp_path), **changes)


def test_the_recipe_file_is_the_paper_s_setting(tmp_path):
    recipe = load(TrainModpo, config=FILE)
    assert (recipe.output, recipe.objectives) == (Path("runs/modpo"), ["helpful", "harmless"])
    assert recipe.weights == [[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]
    assert (recipe.beta, recipe.learning_rate, recipe.batch_size, recipe.epochs) == (0.1, 5e-4, 96, 3)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.schedule, recipe.weight_decay) == (64, 1, "cosine", 0.05)
    assert f"--config recipes/{FILE.name}" in FILE.read_text()
    again = tmp_path / "again.yaml"
    again.write_text(dump(recipe))
    assert load(TrainModpo, config=again) == recipe
