import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.doubles import FakeClock, Script, local_server
from trueup.data.rows import Message
from trueup.endpoints.client import Client
from trueup.endpoints.failure import EndpointError
from trueup.errors import DataError, RecipeError
from trueup.rewards.base import Reward
from trueup.rewards.http import HttpReward, HttpRewardSettings, open_http_reward

CHAT = (Message("user", "Hi"),)


def make(script, tmp_path=None, **settings):
    known = HttpRewardSettings(url="http://rm/get", cache=tmp_path is not None, cache_folder=tmp_path, **settings)
    return HttpReward(settings=known, client=Client(known, transport=script.transport(), clock=FakeClock()), name="rm")


def lengths(payload, number):
    return {"rewards": [len(text) for text in payload["responses"]]}


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), max_size=6), st.integers(1, 9))
def test_each_response_gets_its_own_reward(responses, batch_size):
    """However responses are cut into requests; the server's rule is computed here once more."""
    script = Script(lengths)
    scores = make(script, batch_size=batch_size).score([f"p{i}" for i in range(len(responses))], responses)
    assert [group.tolist() for group in scores.grouped()] == [[len(text) for text in group] for group in responses]
    assert all(len(payload["responses"]) <= batch_size for payload in script.asked)
    assert scores.length.tolist() == scores.reward.tolist()


def test_zero_is_a_reward(tmp_path):
    reward = make(Script(lambda payload, number: {"rewards": [0.0, 0, -0.0]}), tmp_path)
    assert isinstance(reward, Reward)
    assert reward.score(["p"], [["a", "b", "c"]]).reward.tolist() == [0, 0, 0]


def test_batches_are_full():
    script = Script(lengths)
    make(script, batch_size=4).score(["p", "q", "r"], [["a", "b", "c"]] * 3)
    assert sorted(len(payload["prompts"]) for payload in script.asked) == [1, 4, 4]


def test_model_and_other_fields():
    script = Script(lengths)
    make(script, model="m", extra={"truncate": True, "responses2": None}).score(["p"], [["a"]])
    assert script.asked == [{"model": "m", "prompts": ["p"], "responses": ["a"], "truncate": True}]


def test_vllm_takes_texts_together_and_chats_one_by_one():
    script = Script(
        lambda payload, number: {
            "data": [{"index": i, "probs": [float(i)]} for i in range(len(payload.get("input", "a")))]
        }
    )
    reward = make(script, protocol="vllm", concurrent=1, extra={"activation": False, "use_activation": None})
    scores = reward.score(["p", CHAT, "q"], [["a", "b"], ["c", "d"], ["e", "f"]])
    assert scores.reward.tolist() == [0, 1, 0, 0, 0, 1]
    assert [len(payload.get("input", payload.get("messages"))) for payload in script.asked] == [2, 2, 2, 2]
    assert ["messages" in payload for payload in script.asked] == [False, True, True, False]
    assert script.asked[0] == {"input": ["pa", "pb"], "activation": False}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"rewards": [1.0]}, "http://rm/get: 1 rewards for the 3 responses of rows 1 to 2; return one for each"),
        ({"rewards": [1.0] * 4}, "4 rewards for the 3 responses"),
        ({"rewards": [1.0, float("nan"), 2.0]}, "the reward of a response in row 1 is nan"),
        ({"rewards": [1.0, 2.0, float("inf")]}, "the reward of a response in row 2 is inf"),
        ({"rewards": [1.0, 2.0, None]}, "row 2 is None; return one finite number"),
        ({"rewards": [True, 2.0, 1.0]}, "row 1 is True"),
        ({"rewards": ["1", 2.0, 1.0]}, "row 1 is '1'"),
        ({"rewards": [[1.0], [2.0], [3.0]]}, re.escape("row 1 is [1.0]")),
        ({"reward": [1, 2, 3]}, "the answer has no rewards: .*check the url and the protocol"),
        ({"detail": "x" * 1000}, r"x\.\.\."),
        (None, "no rewards: None"),
    ],
)
def test_answers_that_are_no_rewards(answer, message):
    with pytest.raises(EndpointError, match=message):
        make(Script(lambda payload, number: answer)).score(["p", "q"], [["a", "b"], ["c"]])


def test_the_row_is_that_of_the_whole_call():
    script = Script(
        lambda payload, number: {"rewards": [float("nan") if text == "bad" else 1 for text in payload["responses"]]}
    )
    with pytest.raises(EndpointError, match="row 7 is nan"):
        make(script, batch_size=2).score(["p"] * 8, [["a"]] * 6 + [["bad"]] + [["a"]])


def test_a_huge_number_is_no_reward():
    with pytest.raises(EndpointError, match="row 1 is"):
        make(Script(lambda payload, number: {"rewards": [10**400]})).score(["p"], [["a"]])


def test_nothing_to_score():
    script = Script(lengths)
    assert make(script).score([], []).reward.shape == (0,)
    assert script.asked == []
    with pytest.raises(DataError, match="2: the prompt has no responses"):
        make(script).score(["p", "q"], [["a"], []])


def test_a_rerun_asks_only_for_what_is_missing(tmp_path):
    broken = Script(
        lambda payload, number: {"rewards": [None]} if payload["responses"] == ["c"] else lengths(payload, 0)
    )
    with pytest.raises(EndpointError, match="2 of 4 requests were answered and are kept"):
        make(broken, tmp_path, batch_size=1, concurrent=1).score(["p"], [["a", "b", "c", "d"]])
    mended = Script(lengths)
    assert make(mended, tmp_path, batch_size=1).score(["p"], [["a", "b", "c", "d"]]).reward.tolist() == [1, 1, 1, 1]
    assert sorted(payload["responses"] for payload in mended.asked) == [["c"], ["d"]]


def test_settings_that_cannot_be_used():
    with pytest.raises(RecipeError, match="batch_size must be at least 1"):
        HttpRewardSettings(url="http://h", batch_size=0)
    with pytest.raises(RecipeError, match="attempts"):
        HttpRewardSettings(url="http://h", attempts=0)


def test_names():
    settings = HttpRewardSettings(url="http://h:5000/x")
    assert open_http_reward(settings).name == "h:5000"
    assert open_http_reward(replace(settings, name="mine")).name == "mine"
    assert open_http_reward(replace(settings, name="mine"), name="label").name == "label"


def test_a_server_on_this_machine(tmp_path):
    """A server that reads nothing but `query`, as OpenRLHF's own does."""
    with local_server(lambda path, payload: (200, {"rewards": [len(q) for q in payload["query"]]})) as address:
        settings = HttpRewardSettings(
            url=address + "/get_reward", protocol="openrlhf", batch_size=2, cache_folder=tmp_path
        )
        scores = open_http_reward(settings).score(["ab", "c"], [["x", "yz"], [""]])
    assert scores.reward.tolist() == [3, 4, 1]
