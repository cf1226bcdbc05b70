import math

import pytest

from trueup.endpoints.completions import find_route, read_completion, shorten, without_nulls
from trueup.endpoints.failure import EndpointError


@pytest.mark.parametrize(
    ("url", "api", "expected"),
    [
        ("http://h:80", "chat", ("http://h:80/v1/chat/completions", "chat")),
        ("http://h/", "completions", ("http://h/v1/completions", "completions")),
        ("http://h/v1", "chat", ("http://h/v1/chat/completions", "chat")),
        ("http://h/v1/", "completions", ("http://h/v1/completions", "completions")),
        ("http://h/v1/completions", "chat", ("http://h/v1/completions", "completions")),
        ("http://h/x/chat/completions?v=1", "completions", ("http://h/x/chat/completions?v=1", "chat")),
        ("http://h/gateway", "completions", ("http://h/gateway", "completions")),
        ("http://h?version=2", "chat", ("http://h/v1/chat/completions?version=2", "chat")),
    ],
)
def test_the_route(url, api, expected):
    found = find_route(url, api)
    assert (found[0].replace("h:80/", "h/"), found[1]) == (expected[0].replace("h:80/", "h/"), expected[1])


def test_a_chat_answer_in_the_order_of_index():
    answer = {
        "choices": [
            {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
            {
                "index": 0,
                "message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "!"}]},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "a", "logprob": -0.5}, {"token": "!", "logprob": -2}]},
            },
        ],
        "usage": {"completion_tokens": 7},
    }
    found = read_completion(answer, url="u")
    assert [choice.text for choice in found.choices] == ["a!", "b"]
    assert [choice.reason for choice in found.choices] == ["stop", "length"]
    assert found.choices[0].logprobs == (-0.5, -2.0)
    assert found.choices[1].logprobs is None
    assert found.tokens == 7


def test_a_text_answer():
    answer = {"choices": [{"text": "hey", "logprobs": {"token_logprobs": [-1.0, -math.log(2)]}}]}
    found = read_completion(answer, url="u")
    assert found.choices[0].text == "hey"
    assert found.choices[0].logprobs == (-1.0, -math.log(2))
    assert found.choices[0].reason is None
    assert found.tokens is None


def test_an_answer_that_is_all_thought():
    assert read_completion({"choices": [{"message": {"content": None}}]}, url="u").choices[0].text == ""


@pytest.mark.parametrize("logprobs", [{"content": [{}]}, {"token_logprobs": [None]}, {"top": 1}, [], {"content": None}])
def test_logprobs_of_another_form_are_none(logprobs):
    assert read_completion({"choices": [{"text": "a", "logprobs": logprobs}]}, url="u").choices[0].logprobs is None


@pytest.mark.parametrize("answer", [None, [], {}, {"choices": []}, {"choices": ["a"]}, {"choices": {}}, "x"])
def test_an_answer_of_another_kind(answer):
    with pytest.raises(EndpointError, match=r"http://h: the answer has no choices: .*OpenAI-style"):
        read_completion(answer, url="http://h")


@pytest.mark.parametrize("choice", [{}, {"text": None}, {"text": 3}, {"message": "hi"}, {"message": {"content": 3}}])
def test_a_choice_without_text(choice):
    with pytest.raises(EndpointError, match="a choice has no text"):
        read_completion({"choices": [choice]}, url="u")


def test_quoting_and_leaving_out():
    assert shorten("a" * 500, 10) == "'aaaaaaaaa..."
    assert shorten({"a": 1}) == "{'a': 1}"
    assert without_nulls({"a": 1, "b": None, "c": 0}, {"a": None, "d": False}) == {"c": 0, "d": False}
