import pytest

from trueup.data.fields import Fields
from trueup.data.preference_formats import (
    answer_lists,
    implicit,
    preference,
    rm_bench,
    transcript,
    unpaired,
)
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Origin, Response, Row
from trueup.errors import DataError

PLACE = Origin("data.jsonl", 4)
TURN = {"role": "user", "content": "Sky?"}
BLUE, GREEN = {"role": "assistant", "content": "Blue."}, {"role": "assistant", "content": "Green."}


def fields(**values) -> Fields:
    return Fields(PLACE, values)


def pair(prompt, chosen="Blue.", rejected="Green.", **columns) -> Row:
    responses = Response(text=chosen, label=True), Response(text=rejected, label=False)
    return Row(prompt=prompt, responses=responses, origin=PLACE, **{"id": "", **columns})


SKY = (Message("user", "Sky?"),)


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, "Sky?"),
        ({"prompt": "", "chosen": "Blue.", "rejected": "Green."}, ""),
        ({"prompt": [TURN], "chosen": "Blue.", "rejected": "Green."}, SKY),
        ({"prompt": [TURN], "chosen": [BLUE], "rejected": [GREEN]}, SKY),
        ({"prompt": "Sky?", "chosen": [TURN, BLUE], "rejected": [TURN, GREEN]}, SKY),
        ({"prompt": [TURN], "chosen": [TURN, BLUE], "rejected": [TURN, GREEN]}, SKY),
    ],
)
def test_explicit_prompts(record, prompt):
    assert preference(fields(**record)) == pair(prompt)


def test_further_columns_are_carried():
    row = preference(
        fields(
            prompt="Sky?",
            chosen="Blue.",
            rejected="Green.",
            id=7,
            domain="chat",
            source="web",
            margin=2,
            chosen_model="big",
            rejected_score=0.25,
            score_chosen=0.75,
            chosen_features={"length": 5},
        )
    )
    assert (row.id, row.subset, row.margin) == ("7", "chat", 2.0)
    assert row.responses == (
        Response(text="Blue.", label=True, score=0.75, source="big", features={"length": 5.0}),
        Response(text="Green.", label=False, score=0.25),
    )
    assert preference(fields(prompt="", chosen="a", rejected="b", source="web")).subset == "web"


def test_prompts_that_differ_are_a_problem_with_the_turn():
    other = {"role": "user", "content": "Grass?"}
    found = implicit(fields(chosen=[TURN, BLUE, TURN, BLUE], rejected=[TURN, BLUE, other, GREEN]))
    assert found == Problem("prompts differ", PLACE, "the dialogues differ at turn 3, before the last reply")
    longer = implicit(fields(chosen=[TURN, BLUE, TURN, BLUE], rejected=[TURN, BLUE]))
    assert longer == Problem("prompts differ", PLACE, "the dialogues differ at turn 2, before the last reply")
    mixed = preference(fields(prompt="Sky?", chosen="Blue.", rejected=[GREEN]))
    assert mixed.reason == "prompts differ"


@pytest.mark.parametrize("chosen", [[TURN], [TURN, BLUE, TURN], [BLUE]])
def test_no_final_reply(chosen):
    assert implicit(fields(chosen=chosen, rejected=[TURN, GREEN])).reason == "no final reply"


def test_implicit_prompts_in_messages():
    assert implicit(fields(chosen=[TURN, BLUE], rejected=[TURN, GREEN])) == pair(SKY)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", (" blue.", " green.")),
        ("The sky is blue.", "The sky is black.", "The sky is", (" blue.", " black.")),
        ("Q: why?\nA: so", "Q: why?\nA: thus", "Q: why?\nA:", (" so", " thus")),
        ("The sky", "The sky is", "The sky", ("", " is")),
        ("The sky", "The skyline", "The", (" sky", " skyline")),
        ("yes", "no", "", ("yes", "no")),
    ],
)
def test_implicit_prompts_in_text_end_with_a_word(chosen, rejected, prompt, answers):
    assert implicit(fields(chosen=chosen, rejected=rejected)) == pair(prompt, *answers)


def test_implicit_text_without_any_difference():
    assert implicit(fields(chosen="same", rejected="same")).reason == "no prompt"
    with pytest.raises(DataError, match="the same type as `chosen`"):
        implicit(fields(chosen="same", rejected=[TURN, BLUE]))


def test_transcripts_are_cut_by_turn_and_not_by_character():
    row = transcript(
        fields(chosen="\n\nHuman: Sky?\n\nAssistant: Blue.", rejected="\n\nHuman: Sky?\n\nAssistant: Black.")
    )
    assert row == pair(SKY, "Blue.", "Black.")


def test_transcript_problems():
    good = "\n\nHuman: Sky?\n\nAssistant: Blue."
    assert transcript(fields(chosen=good, rejected="Blue")).reason == "not a transcript"
    assert transcript(fields(chosen=good, rejected=good + "\n\nHuman: Why?")).reason == "no final reply"
    other = "\n\nHuman: Grass?\n\nAssistant: Green."
    assert transcript(fields(chosen=good, rejected=other)).reason == "prompts differ"


def test_rm_bench_has_six_responses_with_styles():
    row = rm_bench(fields(prompt="Sky?", chosen=["a", "b", "c"], rejected=["x", "y", "z"], domain="chat", id=1))
    assert [(one.text, one.label, one.features) for one in row.responses] == [
        ("a", True, {"style": 0.0}),
        ("b", True, {"style": 1.0}),
        ("c", True, {"style": 2.0}),
        ("x", False, {"style": 0.0}),
        ("y", False, {"style": 1.0}),
        ("z", False, {"style": 2.0}),
    ]
    with pytest.raises(DataError, match="field `rejected`: found 2 strings; expected 3 strings"):
        rm_bench(fields(prompt="Sky?", chosen=["a", "b", "c"], rejected=["x", "y"]))


def test_reward_bench_2_labels_by_list():
    row = answer_lists(fields(prompt="Sky?", chosen=["a"], rejected=["x", "y", "z"], subset="Ties", id="ref:1"))
    assert [(one.text, one.label) for one in row.responses] == [("a", True), ("x", False), ("y", False), ("z", False)]
    assert (row.id, row.subset) == ("ref:1", "Ties")


def test_unpaired():
    row = unpaired(fields(prompt="Sky?", completion="Blue.", label=True, score=3, model="big"))
    assert row.responses == (Response(text="Blue.", label=True, score=3.0, source="big"),)
    assert unpaired(fields(prompt="Sky?", completion=[BLUE], label=0)).prompt == SKY
    assert unpaired(fields(prompt="Sky?", completion=[TURN], label=0)).reason == "no final reply"
    with pytest.raises(DataError, match="field `label`: found string 'yes'; expected true or false"):
        unpaired(fields(prompt="Sky?", completion="Blue.", label="yes"))


@pytest.mark.parametrize("parse", [preference, implicit, transcript, rm_bench, answer_lists, unpaired])
def test_missing_fields_are_named(parse):
    with pytest.raises(DataError, match=r"data.jsonl:4, field `\w+`: the field is missing; expected a "):
        parse(fields(id="x"))
