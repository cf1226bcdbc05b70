"""Recipes of A-LoL and its relatives: what survives the file, and settings that do not go together."""

import pytest

from trueup.errors import RecipeError
from trueup.objectives import ADVANTAGE_OBJECTIVES, PREFERENCE_OBJECTIVES
from trueup.recipes.config import dump, load
from trueup.recipes.preference_settings import METHODS, TrainPreference

MINIMAL = ["--model", "m", "--output", "o", "--data.train", "d"]
WEIGHED = ["--method", "a_lol", "--reward", "r"]
WRONG = {
    "no reward": (["--method", "a_lol"], "ALol and reward do not go together; name what scores responses as --reward"),
    "advantages of pairs": (["--advantage.priority", "false"], "DPO learns from preferences.*leave out advantage"),
    "responses of pairs": (["--data.responses", "all"], "leave out data.responses"),
    "pairs of responses": ([*WEIGHED, "--data.pairs", "best_versus_worst"], "leave out data.pairs"),
    "empty responses": ([*WEIGHED, "--data.drop_empty", "false"], "leave out data.drop_empty"),
    "terms of pairs": ([*WEIGHED, "--regularizers", "sft"], "ChosenLikelihood needs pairs"),
    "values of rewards": (
        ["--method", "wbc", "--reward", "r", "--advantage.value.samples", "2"], "leave out advantage.value",
    ),
    "two orders": ([*WEIGHED, "--group_by_length"], "leave out group_by_length"),
    "a reference for nothing": (["--method", "wbc", "--reward", "r", "--reference", "x"], "leave out reference"),
    "no largest reward": ([*WEIGHED, "--advantage.reward_max", "0"], "reward_max must be positive"),
    "an unknown scale": ([*WEIGHED, "--advantage.scale", "tanh"], "advantage.scale"),
    "one prompt": ([*WEIGHED, "--advantage.value.prompts", "1"], "prompts must be at least 2"),
    "all held out": ([*WEIGHED, "--advantage.value.held_out", "1"], "held_out must lie between 0 and 1"),
    "a split of nothing": ([*WEIGHED, "--advantage.value.split", "test"], "development, which is not given"),
    "weights that lack": (
        ["--method", "wbc", "--reward", "[a=x, b=y]", "--reward_weights", "[1.0]"], "1 reward_weights for 2 rewards",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_do_not_go_together(name):
    words, message = WRONG[name]
    with pytest.raises(RecipeError, match=message):
        load(TrainPreference, overrides=[*MINIMAL, *words])


def test_no_name_is_of_two_methods():
    assert not PREFERENCE_OBJECTIVES.keys() & ADVANTAGE_OBJECTIVES.keys()
    assert len(METHODS) == len(PREFERENCE_OBJECTIVES) + len(ADVANTAGE_OBJECTIVES)


@pytest.mark.parametrize("name", ADVANTAGE_OBJECTIVES)
def test_a_method_survives_the_file(name, tmp_path):
    found = load(TrainPreference, overrides=[*MINIMAL, "--method", name, "--reward", "r", "--advantage.priority", "no"])
    assert found.method == ADVANTAGE_OBJECTIVES[name]()
    assert (found.weighs, found.fits_values) == (True, name.startswith("a_lol"))
    (tmp_path / "r.yaml").write_text(dump(found))
    assert load(TrainPreference, config=tmp_path / "r.yaml") == found
