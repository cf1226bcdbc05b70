import pytest

from trueup.data.rows import Message
from trueup.rewards.flat import Asked, flatten, scores_of
from trueup.rewards.wire_formats import FORMS

CHAT = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Sing"))
BATCH = [Asked("Q: a\nA:", " b", 1), Asked(CHAT, "la", 2)]


def test_plain():
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Sing"},
    ]
    assert FORMS["plain"].write(BATCH) == {"prompts": ["Q: a\nA:", turns], "responses": [" b", "la"]}


def test_openrlhf():
    told = "user: Hi\n\nassistant: Yes?\n\nuser: Sing"
    assert FORMS["openrlhf"].write(BATCH) == {
        "query": ["Q: a\nA: b", told + "\n\nassistant: la"],
        "prompts": ["Q: a\nA:", told],
        "labels": ["", ""],
    }


def test_vllm():
    assert FORMS["vllm"].write(BATCH[:1]) == {"input": ["Q: a\nA: b"], "use_activation": False}
    messages = FORMS["vllm"].write(BATCH[1:])["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[-1]["content"] == "la"


@pytest.mark.parametrize("protocol", ["plain", "openrlhf"])
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"rewards": [1, 0.0, None]}, [1, 0.0, None]),
        ({"rewards": [], "scores": [1]}, []),
        ({"rewards": 3}, None),
        ({}, None),
        ([1.0], None),
        (None, None),
    ],
)
def test_rewards_in_an_answer(protocol, answer, found):
    assert FORMS[protocol].read(answer) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"data": [{"index": 1, "probs": [2.5]}, {"index": 0, "probs": [-1.0]}]}, [-1.0, 2.5]),
        ({"data": [{"index": 0, "object": "pooling", "data": [0.0]}]}, [0.0]),
        ({"data": [{"index": 0, "data": [[3.0]]}]}, [3.0]),
        ({"data": [{"index": 0, "data": [[3.0], [4.0]]}]}, [[[3.0], [4.0]]]),
        ({"data": [{"index": 0, "probs": [0.1, 0.9]}]}, [[0.1, 0.9]]),
        ({"data": [{"index": 0, "data": "aGVsbG8="}]}, ["aGVsbG8="]),
        ({"data": [{"index": 0}]}, [None]),
        ({"data": []}, []),
        ({"data": [{"index": 0, "probs": [1]}, {"index": 0, "probs": [2]}]}, None),
        ({"data": [{"probs": [1]}]}, None),
        ({"data": [1.0]}, None),
        ({"data": {}}, None),
        ("text", None),
    ],
)
def test_rewards_in_an_answer_of_vllm(answer, found):
    assert FORMS["vllm"].read(answer) == found


def test_responses_in_one_line():
    flat = flatten(["p", "q"], [["a", "bcd"], [""]])
    assert flat == [Asked("p", "a", 1), Asked("p", "bcd", 1), Asked("q", "", 2)]
    scores = scores_of([1.0, 2.0, 3.0], flat)
    assert scores.prompt.tolist() == [0, 0, 1]
    assert scores.length.tolist() == [1, 3, 0]
    assert [group.tolist() for group in scores_of(scores.prompt * 1.0, flat).grouped()] == [[0, 0], [1]]
