import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import DataError, RecipeError
from trueup.lab.world import CORE_FAMILIES, FRESH_FAMILIES, World, parse_prompt
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.phrases import stock_words
from trueup.lab.world.prompts import FAMILIES, compose
from trueup.lab.world.records import Family

WORLD = load_ontology()


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_prompt_is_recovered_from_its_text(name: str):
    prompts = World(1).prompts(250, families=(name,))
    assert {prompt.phrasing for prompt in prompts} == set(range(len(FAMILIES[name].phrasings)))
    for prompt in prompts:
        assert parse_prompt.__wrapped__(prompt.text) == prompt
        assert 1 <= prompt.needs.count <= len(prompt.needs.claims)


def test_families_are_of_one_shape_and_core_and_fresh_do_not_meet():
    assert all(isinstance(family, Family) for family in FAMILIES.values())
    assert sorted((*CORE_FAMILIES, *FRESH_FAMILIES)) == sorted(FAMILIES)


def test_there_are_thousands_of_distinct_prompts():
    prompts = World(0).prompts(6000)
    assert len({prompt.text for prompt in prompts}) == 6000


def test_the_first_prompts_of_a_longer_draw_are_those_of_a_shorter_one():
    world = World(2)
    assert world.prompts(300)[:100] == world.prompts(100)
    assert World(3).prompts(20) != world.prompts(20) != world.prompts(20, seed=1)


def test_excluded_prompts_do_not_occur():
    world = World(2)
    first = [prompt.text for prompt in world.prompts(100)]
    assert not set(first) & {prompt.text for prompt in world.prompts(100, exclude=first)}


def test_asking_for_more_prompts_than_there_are_is_refused():
    with pytest.raises(RecipeError, match="count must be at most about"):
        World(0).prompts(5000, families=("how_to",))


@pytest.mark.parametrize("families", [(), ("list", "riddle")])
def test_unknown_families_are_refused(families: tuple[str, ...]):
    with pytest.raises(RecipeError, match="families must be some of"):
        World(0).prompts(5, families=families)


@pytest.mark.parametrize(
    "text", ["", "What is a dragon?", "List nine animals that fly.", "Compare a fox and a saw by size and home."]
)
def test_a_foreign_prompt_is_a_data_error(text: str):
    with pytest.raises(DataError, match="not one of the small language world"):
        parse_prompt(text)


@settings(deadline=None, max_examples=60)
@given(st.text() | st.from_regex(r"(What is|List|How do I|Work out) [a-z0-9 ,]{0,40}[.?]", fullmatch=True))
def test_any_text_is_a_prompt_or_a_data_error(text: str):
    recovered = text
    with suppress(DataError):
        recovered = parse_prompt(text).text
    assert recovered == text


def test_list_needs_agree_with_a_search_through_all_entities():
    prompt = parse_prompt("Name three animals that live in the forest.")
    brute = {e.name for e in WORLD.entities.values() if e.kind == "animal" and e.values["home"] == "forest"}
    assert {claim[1] for claim in prompt.needs.claims} == brute
    assert prompt.needs.count == 3


def test_arithmetic_answers_agree_with_python():
    signs = {"plus": "+", "minus": "-", "times": "*"}
    for prompt in World(4).prompts(80, families=("arithmetic",)):
        if match := re.fullmatch(r"Work out (.*) in steps\.", prompt.text):
            sum_ = re.sub("[a-z]+", lambda sign: signs[sign[0]], match[1])
            assert prompt.needs.claims[-1] == ("answer", str(eval(sum_)))
    story = parse_prompt("Ann buys 3 bags with 4 books in each and gives away 5. How many books are left?")
    assert story.needs.claims == (("step", "12"), ("step", "7"), ("answer", "7"))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_stock_words_are_no_topic(name: str):
    for prompt in World(4).prompts(100, families=(name,)):
        assert not prompt.needs.topics & stock_words()


def test_guess_needs_fit_all_clues():
    for prompt in World(4).prompts(50, families=("guess",)):
        for _, name in [claim for claim in prompt.needs.claims if claim[0] == "item"]:
            facts = {WORLD.fact(name, attribute) for attribute in WORLD.kind_of(name).attributes}
            assert {prompt.slots[key] for key in ("first", "second", "third")} <= facts


@pytest.mark.parametrize(
    ("family", "slots"),
    [
        ("list", {"number": "many", "property": "animals that live in the forest"}),
        ("compare", {"one": "fox", "two": "owl", "aspect": "colour", "other": "taste"}),
        ("odd_one_out", {"things": "fox, owl, wolf, deer"}),
        ("ordering", {"things": "fox, owl, wolf"}),
        ("ordering", {"things": "rice, owl, dragon"}),
        ("true_or_false", {"thing": "fox", "statement": "tastes sweet"}),
        ("guess", {"kind": "animal", "first": "is red", "second": "is small", "third": "is nice"}),
        ("how_to", {"task": "make fox soup"}),
        ("arithmetic", {"a": "12345678", "b": "2", "who": "Ann", "what": "coins"}),
    ],
)
def test_senseless_slots_make_no_prompt(family: str, slots: dict[str, str]):
    assert compose(family, 0, slots) is None
