import json
import re
from dataclasses import replace

import pytest

from endpoints.doubles import FakeClock, Script
from trueup.endpoints.client import Client
from trueup.endpoints.failure import EndpointError
from trueup.errors import RecipeError
from trueup.rewards.judge import JudgeReward, JudgeSettings
from trueup.rewards.judge_oracle import compare_with, open_judge_oracle, pair_template
from trueup.rewards.oracle import PreferenceOracle, contradictions, symmetrized


def make(answer, tmp_path, **settings):
    script = Script(answer)
    known = JudgeSettings(url="http://judge/v1/chat/completions", cache_folder=tmp_path, model="m", **settings)
    client = Client(known, transport=script.transport(), clock=FakeClock())
    return compare_with(JudgeReward(settings=known, client=client, name="judge")), script


def says(score, key="score"):
    message = {"role": "assistant", "content": json.dumps({key: score})}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def shown(payload):
    text = payload["messages"][0]["content"]
    return [
        re.search(rf"<{place}_response>\n(.*)\n</{place}_response>", text).group(1) for place in ("first", "second")
    ]


def by_length(payload, number):
    """The longer is better by its length's share, and what stands first gains 1 of the 9 points."""
    first, second = shown(payload)
    return says(min(10, 2 + 9 * len(first) / (len(first) + len(second))))


def test_the_score_on_its_scale_is_the_probability(tmp_path):
    oracle, script = make(by_length, tmp_path)
    assert isinstance(oracle, PreferenceOracle)
    assert oracle.name == "judge"
    assert oracle.prefer(["p", "q"], ["aaa", "b"], ["a", "bb"]) == pytest.approx([0.75 + 1 / 9, 1 / 3 + 1 / 9])
    assert sorted(shown(payload) for payload in script.asked) == [["aaa", "a"], ["b", "bb"]]
    assert (
        "<prompt>\np\n</prompt>"
        in script.asked[0]["messages"][0]["content"] + script.asked[1]["messages"][0]["content"]
    )


def test_a_judge_that_favours_the_first_is_found_and_evened_out(tmp_path):
    oracle, script = make(by_length, tmp_path)
    found = contradictions(oracle, ["p"], first=["aaa"], second=["a"])
    assert found.position_bias == pytest.approx(2 / 9)
    assert found.worst[0][:3] == ("p", "aaa", "a")
    assert symmetrized(oracle).prefer(["p"], ["aaa"], ["a"]) == pytest.approx([0.75])
    assert len(script.asked) == 2  # the second time from the cache


def test_the_question_names_key_and_scale():
    settings = JudgeSettings(url="http://h", key="preference", scale=(0, 100))
    text = pair_template(settings)
    assert '{"preference": N}, where N is a number from 0 (the second is much better) over 50 ' in text
    assert "to 100 (the first is much better)" in text
    assert "$" not in text
    assert open_judge_oracle(settings).judge.settings.template == text


def test_a_template_of_the_users_own(tmp_path):
    oracle, script = make(lambda *_: says(1, key="s"), tmp_path, template="{{ response }}?", key="s", scale=(-1, 1))
    assert oracle.prefer(["p"], ["a"], ["b"]).tolist() == [1]
    content = script.asked[0]["messages"][0]["content"]
    assert content.startswith("<first_response>\na\n")
    assert content.endswith("</second_response>?")
    known = replace(oracle.judge.settings, template=None, template_file=tmp_path / "none.j2")
    with pytest.raises(RecipeError, match="template_file"):
        open_judge_oracle(known)


def test_an_answer_outside_the_scale_is_an_error(tmp_path):
    oracle, _ = make(lambda *_: says(11), tmp_path)
    with pytest.raises(
        EndpointError, match=r'no score for a response in row 1: expected JSON with "score" from 1 to 10'
    ):
        oracle.prefer(["p"], ["a"], ["b"])
