import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.rows import Message
from trueup.data.transcripts import Answered, attach_answer, is_transcript, parse_transcript, split_dialogue

USER, REPLY = Message("user", "hi"), Message("assistant", "hello")
WORDS = st.text("ab \n:", max_size=8).map(str.strip)


def test_worked_transcript():
    text = "\n\nHuman: one\nmore \n\nAssistant:  two\n\nnot a turn\n\nHuman: three\n\nAssistant: four"
    assert parse_transcript(text) == (
        Message("user", "one\nmore"),
        Message("assistant", "two\n\nnot a turn"),
        Message("user", "three"),
        Message("assistant", "four"),
    )


def test_turns_of_one_speaker_may_follow_each_other():
    turns = parse_transcript("Human: a\n\nAssistant: b\n\nAssistant: c")
    assert split_dialogue(turns) == Answered((Message("user", "a"), Message("assistant", "b")), "c")


@given(st.lists(st.tuples(st.sampled_from(["Human", "Assistant"]), WORDS), min_size=1, max_size=6))
@settings(deadline=None)
def test_parsing_undoes_writing(turns):
    text = "".join(f"\n\n{name}: {content}" for name, content in turns)
    roles = {"Human": "user", "Assistant": "assistant"}
    assert parse_transcript(text) == tuple(Message(roles[name], content) for name, content in turns)


@pytest.mark.parametrize("text", ["", "hello", "Assistant", "x\n\nHuman: a", 3, None, ["Human: a"]])
def test_what_is_no_transcript(text):
    assert not is_transcript(text)
    if isinstance(text, str):
        assert parse_transcript(text) == ()


def test_dialogues_end_in_a_reply():
    assert split_dialogue((USER, REPLY)) == Answered((USER,), "hello")
    assert split_dialogue((USER, REPLY, USER)) is None
    assert split_dialogue((REPLY,)) is None
    assert split_dialogue(()) is None


def test_answers_may_be_text_a_reply_or_the_whole_dialogue():
    assert attach_answer("hi", "hello") == Answered("hi", "hello")
    assert attach_answer((USER,), "hello") == Answered((USER,), "hello")
    assert attach_answer("hi", (REPLY,)) == Answered((USER,), "hello")
    assert attach_answer((USER,), (REPLY,)) == Answered((USER,), "hello")
    assert attach_answer("hi ", (USER, REPLY)) == Answered((USER,), "hello")
    assert attach_answer((USER,), (USER, REPLY)) == Answered((USER,), "hello")
    system = Message("system", "be kind")
    assert attach_answer("hi", (system, USER, REPLY)) == Answered((system, USER), "hello")
    longer = (REPLY, USER, REPLY)
    assert attach_answer((USER,), longer) == Answered((USER, REPLY, USER), "hello")


def test_answers_that_contradict_the_prompt_or_end_in_a_question():
    assert attach_answer("something else", (USER, REPLY)) is None
    assert attach_answer((USER,), (REPLY, USER)) is None
    assert attach_answer("hi", (USER,)) is None
