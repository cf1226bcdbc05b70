import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.data.demonstration_formats import (
    alpaca,
    conversation,
    prompt_completion,
    prompt_response,
    sharegpt,
    text,
    without_reply,
)
from trueup.data.fields import Fields
from trueup.data.formats import FORMATS, detect_format, read_rows
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Origin, Response, Row
from trueup.errors import DataError

from .samples import TEXT, write_jsonl

PLACE = Origin("data.jsonl", 4)
TURN, BLUE = {"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}
SKY = (Message("user", "Sky?"),)
DEMONSTRATIONS = {
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "prompt-response": {"prompt": "q", "response": "a"},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "conversation": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "text": {"text": "a"},
}
PARSERS = {name: FORMATS[name].parse for name in DEMONSTRATIONS}


def fields(**values) -> Fields:
    return Fields(PLACE, values)


def shown(prompt, answer="Blue.", **columns) -> Row:
    return Row(prompt=prompt, responses=(Response(text=answer),), origin=PLACE, **{"id": "", **columns})


@pytest.mark.parametrize(
    ("record", "format"),
    [
        *((record, name) for name, record in DEMONSTRATIONS.items()),
        ({"prompt": "q", "completion": "a", "label": None}, "prompt-completion"),
        ({"prompt": "q", "completion": "a", "label": False}, "unpaired"),
        ({"prompt": "q", "completion": "a", "response": "b"}, "prompt-completion"),
        ({"prompt": "q", "output": "a"}, "prompt-response"),
        ({"prompt": "q", "answer": "a", "question": "q"}, "prompt-response"),
        ({"prompt": "q", "responses": [{"text": "a"}], "response": "a"}, "responses"),
        ({"prompt": "q", "messages": []}, "conversation"),
        ({"prompt": "q and a", "instruction": "q", "output": "a"}, "alpaca"),
        ({"instruction": "q", "input": None, "output": "a", "text": "q and a"}, "alpaca"),
        ({"instruction": "q", "context": "c", "response": "a"}, "alpaca"),
        ({"question": "q", "answer": "a"}, "alpaca"),
        ({"instruction": "q", "completions": []}, "ultrafeedback"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "messages": [], "response": "a"}, "preference"),
        ({"prompt": "q", "chosen": "a", "rejected": None, "messages": [], "response": "a"}, None),
        ({"text": "a", "label": "positive"}, "text"),
        ({"text": "a", "response": "b"}, None),
        ({"text": "a", "prompt": "b"}, None),
        ({"prompt": "q"}, None),
        ({"instruction": "q"}, None),
        ({"response": "a"}, None),
        ({"messages": None, "text": "a"}, "text"),
    ],
)
def test_detection(record, format):
    assert detect_format(record) == format


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"prompt": "Sky?", "completion": "Blue."}, shown("Sky?")),
        ({"prompt": "", "completion": ""}, shown("", "")),
        ({"prompt": [TURN], "completion": [BLUE]}, shown(SKY)),
        ({"prompt": [TURN], "completion": "Blue."}, shown(SKY)),
        ({"prompt": [TURN], "completion": [TURN, BLUE]}, shown(SKY)),
        ({"prompt": [TURN], "completion": [TURN]}, "no final reply"),
    ],
)
def test_prompt_completion(record, row):
    found = prompt_completion(fields(**record))
    assert found == row if isinstance(row, Row) else found.reason == row


@pytest.mark.parametrize("reply", ["response", "output", "answer"])
def test_prompt_response(reply):
    assert prompt_response(fields(**{"prompt": "Sky?", reply: "Blue."})) == shown("Sky?")
    assert prompt_response(fields(**{"prompt": [TURN], reply: [BLUE]})) == shown(SKY)
    problem = prompt_response(fields(**{"prompt": [TURN], reply: [TURN]}))
    assert problem == Problem("no final reply", PLACE, f"`{reply}` does not end in a reply to the prompt")


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"instruction": "Name it.", "output": "Blue."}, "Name it."),
        ({"instruction": "Name it.", "input": " \n", "output": "Blue."}, "Name it."),
        ({"instruction": "Name it.", "input": "The sky", "output": "Blue."}, "Name it.\n\nThe sky"),
        ({"instruction": "Name it.", "context": "The sky", "response": "Blue."}, "Name it.\n\nThe sky"),
        ({"question": "Sky?", "answer": "Blue."}, "Sky?"),
    ],
)
def test_alpaca_and_its_relatives(record, prompt):
    assert alpaca(fields(**record)) == shown(prompt)


def test_the_last_assistant_turn_of_a_dialogue_is_the_response():
    system = {"role": "system", "content": "Be brief."}
    turns = [system, TURN, BLUE, {"role": "user", "content": "Grass?"}, {"role": "assistant", "content": "Green."}]
    prompt = (Message("system", "Be brief."), *SKY, Message("assistant", "Blue."), Message("user", "Grass?"))
    assert conversation(fields(messages=turns)) == shown(prompt, "Green.")
    assert conversation(fields(messages=turns[:3])) == shown(prompt[:2])


@pytest.mark.parametrize("role", ["user", "system", "tool", "narrator"])
def test_dialogues_without_a_final_reply(role):
    found = conversation(fields(messages=[TURN, BLUE, {"role": role, "content": "Grass?"}]))
    assert found == Problem("no final reply", PLACE, f"`messages` ends in a turn of role '{role}'")
    turns = [{"from": "human", "value": "Sky?"}, {"from": role, "value": "Blue."}]
    assert sharegpt(fields(conversations=turns)).reason == "no final reply"


def test_dialogues_without_a_prompt():
    assert conversation(fields(messages=[BLUE])) == Problem("no prompt", PLACE, "`messages` holds a reply alone")
    assert sharegpt(fields(conversations=[{"from": "gpt", "value": "Blue."}])).reason == "no prompt"


@pytest.mark.parametrize(
    ("speaker", "role"),
    [("human", "user"), ("User", "user"), ("system", "system"), ("observation", "tool"), ("Judge", "Judge")],
)
def test_sharegpt_speakers_become_roles(speaker, role):
    turns = [{"from": speaker, "value": "x"}, {"from": "human", "value": "Sky?"}, {"from": "gpt", "value": "Blue."}]
    assert sharegpt(fields(conversations=turns)) == shown((Message(role, "x"), *SKY))


def test_conversations_may_be_in_chat_messages():
    assert sharegpt(fields(conversations=[TURN, BLUE])) == shown(SKY)


def test_text_has_an_empty_prompt():
    assert text(fields(text="Blue.", label=1)) == shown("")


@given(st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "system"]), TEXT), max_size=5).map(tuple))
def test_what_remains_without_the_reply(turns):
    before = without_reply(turns)
    assert turns[: len(before)] == before
    replied = bool(turns) and turns[-1].role == "assistant"
    assert len(turns) - len(before) == replied


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_shared_columns_are_carried_and_there_is_never_a_label(name):
    columns = {"id": 7, "domain": "chat", "model": "big", "score": 2}
    row = PARSERS[name](fields(**DEMONSTRATIONS[name], **columns))
    assert (row.id, row.subset) == ("7", "chat")
    assert row.responses == (Response(text="a", score=2.0, source="big"),)


@pytest.mark.parametrize("name", sorted(DEMONSTRATIONS.keys() - {"text"}))
def test_labelled_replies_are_not_demonstrations(name):
    with pytest.raises(DataError, match=r"data.jsonl:4, field `label`: found boolean False; expected no label.*; drop"):
        PARSERS[name](fields(**DEMONSTRATIONS[name], label=False))


@pytest.mark.parametrize(
    ("parse", "record", "message"),
    [
        (prompt_completion, {"prompt": "q"}, "field `completion`: the field is missing; expected a string or a list"),
        (prompt_completion, {"prompt": 3, "completion": "a"}, "field `prompt`: found number 3"),
        (prompt_response, {"prompt": "q"}, "field `response`: the field is missing"),
        (prompt_response, {"response": "a"}, "field `prompt`: the field is missing"),
        (
            prompt_response,
            {"prompt": "q", "response": "a", "answer": "b"},
            "field `response`: found `response` and `answer`; expected one of them alone; drop or rename the others",
        ),
        (
            prompt_response,
            {"prompt": "q", "instruction": "q", "answer": "b"},
            "field `prompt`: found `prompt` and `instr",
        ),
        (alpaca, {"instruction": "q"}, "field `output`: the field is missing"),
        (alpaca, {"output": "a"}, "field `instruction`: the field is missing; expected a string"),
        (alpaca, {"instruction": "q", "question": "q", "output": "a"}, "field `instruction`: found `instr"),
        (alpaca, {"instruction": "q", "input": 1, "output": "a"}, "field `input`: found number 1; expected a string"),
        (alpaca, {"instruction": "q", "input": "i", "context": "c", "output": "a"}, "field `input`: found"),
        (conversation, {"messages": []}, "field `messages`: found list .*; expected a list with at least one entry"),
        (conversation, {"messages": "hi"}, "field `messages`: found string 'hi'; expected a list"),
        (conversation, {"messages": [TURN, "Blue."]}, r"field `messages\[1\]`: found string 'Blue.'; expected an obj"),
        (conversation, {"messages": [{"role": "user"}]}, r"field `messages\[0\].content`: the field is missing"),
        (sharegpt, {"conversations": [{"value": "x"}]}, r"field `conversations\[0\].from`: the field is missing"),
        (sharegpt, {"conversations": [{"from": "gpt"}]}, r"field `conversations\[0\].value`: the field is missing"),
        (text, {"text": None}, "field `text`: the field is null; expected a string"),
        (text, {"text": "a", "score": "high"}, "field `score`: found string 'high'; expected a finite number"),
    ],
)
def test_bad_records_are_named(parse, record, message):
    with pytest.raises(DataError, match=f"data.jsonl:4, {message}"):
        parse(fields(**record))


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_every_format_is_read_from_a_file(tmp_path, name):
    path = write_jsonl(tmp_path / "f", DEMONSTRATIONS[name], {**DEMONSTRATIONS[name], "label": None, "extra": 1})
    file = read_rows(path)
    assert (file.format, file.problems, file.ignored) == (name, (), ("extra", "label"))
    assert [row.responses for row in file.rows] == [(Response(text="a"),)] * 2
    assert read_rows(path, format=name) == file


def test_columns_beside_the_dialogue_are_listed_as_unused(tmp_path):
    path = write_jsonl(tmp_path / "f", {**DEMONSTRATIONS["conversation"], "prompt": "q", "prompt_id": "x"})
    file = read_rows(path)
    assert (file.rows[0].id, file.ignored) == ("x", ("prompt",))


def test_an_unlabelled_record_among_labelled_ones_lacks_its_label(tmp_path):
    labelled = {"prompt": "q", "completion": "a", "label": True}
    with pytest.raises(DataError, match="f:2, field `label`: the field is null; expected true or false"):
        read_rows(write_jsonl(tmp_path / "f", labelled, {**labelled, "label": None}))
    with pytest.raises(DataError, match="f:2: mixed schemas: this row is `unpaired`"):
        read_rows(write_jsonl(tmp_path / "f", {**labelled, "label": None}, labelled))


def test_half_a_preference_still_lacks_its_other_half(tmp_path):
    record = {"prompt": "q", "response": "a", "messages": [TURN, BLUE], "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match="make no known format") as caught:
        read_rows(write_jsonl(tmp_path / "f", {**record, "rejected": None}))
    assert caught.value.field == "rejected"
    with pytest.raises(DataError, match="f:2, field `rejected`: the field is null"):
        read_rows(write_jsonl(tmp_path / "f", record, {**record, "rejected": None}))


def test_broken_dialogues_are_named_by_field_and_not_as_another_schema(tmp_path):
    path = write_jsonl(tmp_path / "f", DEMONSTRATIONS["conversation"], {"messages": "hi"})
    with pytest.raises(DataError, match="f:2, field `messages`: found string 'hi'"):
        read_rows(path)


ROLES = st.sampled_from(["user", "assistant", "system", "tool"])
DIALOGUE = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXT}), min_size=1, max_size=4)


@given(
    st.lists(DIALOGUE, min_size=1, max_size=6),
    st.sampled_from(["conversation", "sharegpt", "prompt-completion", "prompt-response"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_record_becomes_a_row_or_a_problem(tmp_path, dialogues, name):
    if name in {"conversation", "sharegpt"}:
        records = [{FORMATS[name].core[0]: turns} for turns in dialogues]
    else:
        records = [{"prompt": [TURN], FORMATS[name].core[1]: turns} for turns in dialogues]
    path = write_jsonl(tmp_path / "f", *records)
    if not any(turns[-1]["role"] == "assistant" and (len(turns) > 1 or "prompt" in records[0]) for turns in dialogues):
        with pytest.raises(DataError, match=f"zero usable rows; the first of {len(records)} problems"):
            read_rows(path, format=name)
        return
    file = read_rows(path, format=name)
    assert file == read_rows(path)
    places = [row.origin.row for row in file.rows] + [problem.origin.row for problem in file.problems]
    assert sorted(places) == list(range(1, len(records) + 1))
    for row in file.rows:
        assert row.responses == (Response(text=dialogues[row.origin.row - 1][-1]["content"]),)


def test_real_texts(shared_data):
    file = read_rows(shared_data / "sentiment-movie-reviews", split="test")
    assert (file.format, file.problems, "label" in file.ignored) == ("text", (), True)
    assert all(row.prompt == "" and row.responses[0].text for row in file.rows)
