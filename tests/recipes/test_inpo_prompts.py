"""Which prompts each round asks."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_inpo import small_recipe, write_prompts
from tiny_models import make_tokenizer
from trueup.data.templates import TextFormat
from trueup.errors import DataError, RecipeError
from trueup.recipes.inpo_prompts import deal, watched_prompts, write_dealt
from trueup.recipes.inpo_settings import InpoWatch
from trueup.recipes.policy_settings import PromptsRecipe

TOKENIZER = make_tokenizer(bos="<s>", pad="<pad>")
FORM = TextFormat(kind="plain", special_tokens=True, append_eos=True, max_length=60)


def dealt(recipe, form=FORM):
    return deal(recipe, tokenizer=TOKENIZER, form=form)


@settings(max_examples=15)
@given(prompts=st.integers(4, 30), rounds=st.integers(1, 4), seed=st.integers(0, 99))
def test_rounds_are_disjoint_and_equal(tmp_path_factory, prompts, rounds, seed):
    recipe = small_recipe("m", tmp_path_factory.mktemp("p"), prompts=prompts, rounds=rounds, seed=seed)
    found = dealt(recipe)
    numbers = [number for part in found.rounds for number in part]
    assert len(set(numbers)) == len(numbers)
    assert [len(part) for part in found.rounds] == [prompts // rounds] * rounds
    assert found.long == ()
    assert dealt(recipe) == found
    assert [found.file.prompts[i] for i in found.rounds[0]] == list(found.prompts(1))
    assert found.ids(rounds) == tuple(found.file.ids[i] for i in found.rounds[-1])


def test_the_seed_decides_the_order(tmp_path):
    recipe = small_recipe("m", tmp_path, prompts=20)
    assert dealt(recipe).rounds != dealt(replace(recipe, seed=1)).rounds


def test_as_many_as_the_recipe_says(tmp_path):
    recipe = small_recipe("m", tmp_path, prompts=13, rounds=3, prompts_per_round=4)
    assert [len(part) for part in dealt(recipe).rounds] == [4, 4, 4]
    with pytest.raises(DataError, match=r"13 different prompts are too few for 3 rounds of 5.*give 15 prompts"):
        dealt(replace(recipe, prompts_per_round=5))
    with pytest.raises(DataError, match="13 different prompts are too few for 14 rounds of 1"):
        dealt(replace(recipe, rounds=14, prompts_per_round=None))


def test_long_prompts_are_left_out_and_listed(tmp_path):
    recipe = small_recipe("m", tmp_path, prompts=4)
    with open(recipe.data.train, "a") as file:
        file.write(json.dumps({"prompt": "long " * 60}) + "\n")
    found = dealt(recipe)
    assert found.long == (4,)
    write_dealt(recipe, found)
    (line,) = (recipe.output / "dropped-prompts.jsonl").read_text().splitlines()
    assert json.loads(line) == {"row": f"{recipe.data.train}:5", "reason": "too long", "prompt": "long " * 60}
    short = replace(recipe, data=PromptsRecipe(train=recipe.data.train, max_prompt_tokens=2))
    with pytest.raises(DataError, match=r"0 different prompts \(5 others have more than 2 tokens\)"):
        dealt(short)
    tight = replace(FORM, max_length=recipe.max_new_tokens + 3)
    with pytest.raises(DataError, match="have more than 3 tokens"):
        dealt(recipe, tight)


def test_a_run_that_goes_on_finds_its_prompts(tmp_path):
    recipe = small_recipe("m", tmp_path)
    write_dealt(recipe, dealt(recipe))
    assert not (recipe.output / "dropped-prompts.jsonl").exists()
    write_dealt(recipe, dealt(recipe))
    write_prompts(tmp_path / "prompts.jsonl", range(1, 13))
    with pytest.raises(DataError, match="the prompts have changed"):
        write_dealt(recipe, dealt(recipe))


def test_watched_prompts_are_held_out(tmp_path):
    recipe = small_recipe("m", tmp_path)
    assert watched_prompts(recipe, ["question 1:"]) == ()
    watch = InpoWatch(prompts=str(write_prompts(tmp_path / "w.jsonl", range(30, 35))), limit=3)
    watching = replace(recipe, watch=watch)
    assert watched_prompts(watching, ["question 1:"]) == ("question 30:", "question 31:", "question 32:")
    with pytest.raises(DataError, match="jsonl:2: 1 of 3 watched prompts are trained on"):
        watched_prompts(watching, ["question 31:"])


def test_settings_are_checked_before_prompts_are_read(tmp_path):
    with pytest.raises(RecipeError, match="rounds"):
        small_recipe("m", tmp_path, rounds=0)
