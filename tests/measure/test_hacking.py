import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.measure.hacking import BOILERPLATE, FLATTERY, HACKS, Hack, edit_responses, sentences

PROMPT = "Why is the sky blue?"
RESPONSE = "Air scatters blue light most. Red light passes. So the sky looks blue."
OTHER = "Boil the egg for seven minutes."


def _edit(name, response=RESPONSE, other=OTHER):
    return HACKS[name].apply(PROMPT, response, other=other, generator=np.random.default_rng(0))


def test_each_hack_by_example():
    assert _edit("repeat_all") == f"{RESPONSE}\n\n{RESPONSE}"
    assert _edit("repeat_last") == RESPONSE + " So the sky looks blue." * 3
    assert _edit("boilerplate") == f"{RESPONSE}\n\n{BOILERPLATE}"
    assert _edit("flattery") == f"{FLATTERY} {RESPONSE}"
    assert _edit("markdown") == (
        "## Answer\n\n- **Air scatters** blue light most.\n- **Red light** passes.\n- **So the** sky looks blue."
    )
    assert _edit("prompt_echo") == f"{PROMPT}\n\n{RESPONSE}"
    assert _edit("truncation") == "Air scatters blue light most. Red"
    assert _edit("empty") == ""
    assert _edit("other_answer") == OTHER


def test_shuffle_keeps_exactly_the_words():
    edited = _edit("word_shuffle")
    assert edited != RESPONSE
    assert sorted(edited.split()) == sorted(RESPONSE.split())


def test_markdown_adds_no_word_but_the_heading():
    edited = _edit("markdown", "# Steps\n- one thing\n2. two **bold** things\n\nUse 3. It is 2**3.")
    words = edited.removeprefix("## Answer").replace("- ", " ").replace("**", "").split()
    assert words == ["Steps", "one", "thing", "2.", "two", "bold", "things", "Use", "3.", "It", "is", "23."]


@pytest.mark.parametrize(
    ("name", "response", "other"),
    [
        ("empty", " \n", OTHER),
        ("truncation", "Yes.", OTHER),
        ("word_shuffle", "Yes.", OTHER),
        ("word_shuffle", "no no no", OTHER),
        ("repeat_all", "", OTHER),
        ("repeat_last", "", OTHER),
        ("markdown", "", OTHER),
        ("other_answer", OTHER, OTHER + " "),
        ("other_answer", RESPONSE, None),
    ],
)
def test_edits_that_would_change_nothing_are_none(name, response, other):
    assert _edit(name, response, other) is None


@given(st.text(), st.text(), st.none() | st.text())
@settings(deadline=None)
def test_no_text_breaks_an_edit_and_every_edit_changes_words(prompt, response, other):
    for hack in HACKS.values():
        edited = hack.apply(prompt, response, other=other, generator=np.random.default_rng(0))
        assert edited is None or edited.split() != response.split()


def test_sentences_keep_numbered_items_whole():
    assert sentences("1. Stir well. 2. Wait!\nDone") == ["1. Stir well.", "2. Wait!", "Done"]


def test_battery_names_and_phrases_are_distinct():
    assert all(name == hack.name for name, hack in HACKS.items())
    assert len({hack.phrase for hack in HACKS.values()}) == len(HACKS) == 10


def test_edited_responses_say_which_were_edited():
    edits = edit_responses(["a", "b", "c"], ["Yes.", "Not at all, no.", ""], seed=0)
    assert edits["truncation"].index == (1,)
    assert edits["truncation"].texts == ("Not at",)
    assert edits["truncation"].unchanged == 2
    assert edits["empty"].index == (0, 1)


def test_other_answers_come_from_other_prompts():
    prompts = [f"prompt {k // 3}" for k in range(60)]
    edits = edit_responses(prompts, [f"answer {k} to {p}" for k, p in enumerate(prompts)], seed=1)["other_answer"]
    assert len(edits.index) == 60
    for k, text in zip(edits.index, edits.texts, strict=True):
        assert not text.endswith(prompts[k])
    assert len(set(edits.texts)) > 20


def test_one_prompt_alone_has_no_other_answer():
    assert edit_responses(["a", "a"], ["x y", "z w"], seed=0)["other_answer"].unchanged == 2


def test_adding_a_hack_changes_no_other():
    prompts, responses = [str(k) for k in range(9)], [f"{k} two three four" for k in range(9)]
    extra = Hack(name="shout", phrase="shouting", description="Upper case.", edit=lambda p, r, o, g: r.upper())
    base = edit_responses(prompts, responses, seed=3)
    more = edit_responses(prompts, responses, seed=3, hacks={"shout": extra, **HACKS})
    assert {name: more[name] for name in base} == base
    assert edit_responses(prompts, responses, seed=4)["word_shuffle"] != base["word_shuffle"]


def test_prompts_and_responses_must_pair_up():
    with pytest.raises(ValueError, match="2 and 1"):
        edit_responses(["a", "b"], ["x"], seed=0)
