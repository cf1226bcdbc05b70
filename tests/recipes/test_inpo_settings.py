"""The recipe of `trueup train inpo`: the paper's numbers, and what does not fit together."""

from dataclasses import replace
from pathlib import Path

import pytest

from trueup.errors import RecipeError
from trueup.objectives import INPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.recipes.config import MAX_SEED, dump, load
from trueup.recipes.inpo_settings import InpoWatch, TrainInpo

FILE = Path(__file__).resolve().parents[2] / "recipes" / "inpo.yaml"
MINIMAL = ["--model", "m", "--output", "o", "--data.train", "d", "--oracle", "q:prefer"]


def made(*words) -> TrainInpo:
    return load(TrainInpo, overrides=[*MINIMAL, *map(str, words)])


def test_the_defaults_are_the_paper_s():
    recipe = made()
    assert recipe.method == INPO()
    assert (recipe.eta, recipe.tau) == (0.005, None)
    assert (recipe.rounds, recipe.pairs, recipe.drawn, recipe.batch_size) == (3, "tournament", 8, 128)
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup) == (5e-7, "cosine", 0.03)
    assert (recipe.temperature, recipe.top_p) == (1.0, 1.0)
    assert [made("--pairs", name).drawn for name in ("iid", "best_worst")] == [2, 8]


def test_the_recipe_file_loads_and_says_how_it_is_run(tmp_path):
    recipe = load(TrainInpo, config=FILE)
    assert f"--config recipes/{FILE.name}" in FILE.read_text()
    assert recipe.output == Path("runs/inpo")
    assert recipe.prompts_per_round == 20_000
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert load(TrainInpo, config=tmp_path / "again.yaml") == recipe
    paper = made()
    for name in ("rounds", "pairs", "drawn", "method", "batch_size", "learning_rate", "schedule", "warmup", "epochs"):
        assert getattr(recipe, name) == getattr(paper, name), name


def test_a_round_is_trained_from_the_last_one_against_the_first(tmp_path):
    recipe = made("--regularizers", "sft", "--eta", 0.1, "--tau", 0.05, "--seed", 7, "--max_steps", 3)
    first = recipe.training(1, start="m", folder=tmp_path / "1")
    third = recipe.training(3, start="runs/2/model", folder=tmp_path / "3", text_format="chat", max_length=100)
    assert (first.model, first.reference, first.seed) == ("m", None, 7)
    assert (third.model, third.reference, third.seed) == ("runs/2/model", "m", 9)
    assert first.terms == third.terms == (INPO(eta=0.1, tau=0.05), ChosenLikelihood())
    assert third.needs >= {"reference", "previous"}
    assert (third.data.train, third.data.text_format) == (str(tmp_path / "3" / "pairs.jsonl"), "chat")
    assert (first.data.max_length, third.data.max_length) == (2048, 100)
    assert (third.output, third.max_steps, third.resume) == (tmp_path / "3", 3, False)
    (tmp_path / "3" / "checkpoint-2").mkdir(parents=True)
    assert recipe.training(3, start="runs/2/model", folder=tmp_path / "3").resume


def test_every_round_has_a_seed():
    recipe = made("--seed", MAX_SEED)
    assert [recipe.seed_of(number) for number in (1, 2, 3)] == [MAX_SEED, 0, 1]
    assert replace(recipe, seed=5).seed_of(3) == 7


WRONG = {
    "samples must be a power of two for a tournament": ["--samples", "6"],
    "samples must be even for iid pairs": ["--pairs", "iid", "--samples", "3"],
    "iid pairs must be samples of the policy itself": ["--pairs", "iid", "--temperature", "0.7"],
    "samples must be at least 2": ["--samples", "1"],
    "rounds must be at least 1": ["--rounds", "0"],
    "prompts_per_round must be at least 1": ["--prompts_per_round", "0"],
    "leave out from_scratch": ["--from_scratch"],
    "leave out tokenizer": ["--tokenizer", "t"],
    "leave out patience": ["--patience", "2"],
    "eval_steps does nothing here": ["--eval_steps", "2"],
    "leaves a prompt no room in max_length": ["--max_new_tokens", "64", "--max_length", "64"],
    "oracle_scale must be positive": ["--oracle_scale", "0"],
    "max_contradiction must be in": ["--max_contradiction", "1.5"],
    "eta must be positive": ["--eta", "0"],
    "tau must lie in": ["--tau", "0.1"],
    "temperature must be 0 or more": ["--temperature", "-1"],
    "top_p must lie in": ["--top_p", "0"],
    "level must lie between 0 and 1": ["--watch.prompts", "w", "--watch.level", "1"],
    "limit must be at least 1": ["--watch.prompts", "w", "--watch.limit", "0"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_together(message):
    with pytest.raises(RecipeError) as caught:
        made(*WRONG[message])
    assert message in str(caught.value)


def test_an_oracle_is_needed():
    with pytest.raises(RecipeError, match="field `oracle` is missing"):
        load(TrainInpo, overrides=MINIMAL[:-2])


def test_watching_is_asked_for_by_its_prompts():
    assert made().watch is None
    assert made("--watch.prompts", "w").watch == InpoWatch(prompts="w")
