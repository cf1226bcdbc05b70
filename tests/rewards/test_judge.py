import json
from dataclasses import replace

import numpy as np
import pytest

from endpoints.doubles import FakeClock, Script, local_server
from trueup.data.rows import Message
from trueup.endpoints.client import Client
from trueup.endpoints.failure import EndpointError
from trueup.errors import RecipeError
from trueup.rewards.base import Reward
from trueup.rewards.judge import JudgeReward, JudgeSettings, open_judge

SHORT = "{{ prompt }}>{{ response }}"


def make(answer, tmp_path, **settings):
    script = answer if isinstance(answer, Script) else Script(answer)
    values = {"template": SHORT, "model": "m", "cache_folder": tmp_path, **settings}
    known = JudgeSettings(url="http://judge/v1/chat/completions", **values)
    client = Client(known, transport=script.transport(), clock=FakeClock())
    return JudgeReward(settings=known, client=client, name="judge"), script


def says(text, reason="stop"):
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}]}


def counts_letters(payload, number):
    return says(json.dumps({"score": len(payload["messages"][0]["content"].partition(">")[2])}))


def test_each_response_is_judged(tmp_path):
    judge, script = make(counts_letters, tmp_path)
    assert isinstance(judge, Reward)
    scores = judge.score(["p", "q"], [["a", "bcd"], ["ef"]])
    assert scores.reward.tolist() == [1, 3, 2]
    assert scores.prompt.tolist() == [0, 0, 1]
    assert scores.length.tolist() == [1, 3, 2]
    assert sorted(payload["messages"][0]["content"] for payload in script.asked) == ["p>a", "p>bcd", "q>ef"]
    assert judge.score([], []).reward.shape == (0,)


def test_what_is_asked(tmp_path):
    judge, script = make(counts_letters, tmp_path, temperature=0.5, max_tokens=9, seed=3, extra={"stop": ["x"]})
    judge.score([(Message("system", "S"), Message("user", "U"))], [["a"]])
    assert script.asked == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "system: S\n\nuser: U>a"}],
            "temperature": 0.5,
            "max_tokens": 9,
            "seed": 3,
            "stop": ["x"],
        }
    ]


def test_a_server_that_knows_no_seed(tmp_path):
    judge, script = make(
        counts_letters, tmp_path, model=None, extra={"seed": None, "max_tokens": None, "max_completion_tokens": 5}
    )
    judge.score(["p"], [["a"]])
    assert set(script.asked[0]) == {"messages", "temperature", "max_completion_tokens"}


def test_repeats_are_averaged(tmp_path):
    judge, script = make(
        lambda payload, number: says(json.dumps({"score": payload["seed"]})), tmp_path, repeats=4, temperature=1, seed=2
    )
    assert judge.score(["p"], [["a", "b"]]).reward.tolist() == [np.mean([2, 3, 4, 5])] * 2
    assert len(script.asked) == 8


def test_an_answer_without_a_score_is_asked_for_once_more_with_another_seed(tmp_path):
    def answer(payload, number):
        return says("I would rather not") if payload["seed"] == 0 and "odd" in str(payload) else says('{"score": 4}')

    judge, script = make(answer, tmp_path)
    assert judge.score(["p"], [["odd", "even"]]).reward.tolist() == [4, 4]
    assert len(script.asked) == 3
    assert script.asked[2]["seed"] != 0
    assert script.asked[2]["messages"][0]["content"] == "p>odd"


def test_twice_without_a_score_is_an_error_that_quotes_the_answer(tmp_path):
    judge, script = make(lambda payload, number: says("Both are\nlovely!"), tmp_path)
    with pytest.raises(EndpointError) as raised:
        judge.score(["p"], [["a"]])
    message = str(raised.value)
    assert message.startswith("http://judge/v1/chat/completions: no score for a response in row 1: ")
    assert 'expected JSON with "score" from 1 to 10' in message
    assert "Both are" in message
    assert "change the template" in message
    assert len(script.asked) == 2


def test_the_error_names_the_row_the_pattern_and_a_cut(tmp_path):
    judge, _ = make(
        lambda payload, number: says("let me see", "length") if "bad" in str(payload) else says("7"),
        tmp_path,
        pattern=r"(\d)$",
    )
    with pytest.raises(EndpointError, match=r"row 3: expected `\(\\d\)\$` from 1 to 10.*raise max_tokens"):
        judge.score(["p"] * 4, [["a"], ["b"], ["bad"], ["c"]])


def test_after_such_an_error_only_that_answer_is_asked_for_again(tmp_path):
    def refuses_b(payload, number):
        return says("no" if payload["messages"][0]["content"] == "p>b" else '{"score": 2}')

    with pytest.raises(EndpointError):
        make(refuses_b, tmp_path)[0].score(["p"], [["a", "b"]])
    judge, script = make(lambda payload, number: says('{"score": 3}'), tmp_path)
    assert judge.score(["p"], [["a", "b"]]).reward.tolist() == [2, 3]
    assert len(script.asked) == 1


def test_another_pattern_reads_kept_answers(tmp_path):
    make(lambda payload, number: says('{"score": 2, "style": 9}'), tmp_path)[0].score(["p"], [["a"]])
    judge, script = make(counts_letters, tmp_path, key="style")
    assert judge.score(["p"], [["a"]]).reward.tolist() == [9]
    assert script.asked == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 0}, "repeats and max_tokens must be at least 1"),
        ({"max_tokens": 0}, "repeats and max_tokens"),
        ({"temperature": -1}, "temperature must not be negative"),
        ({"repeats": 2}, "at temperature 0 are equal; raise temperature"),
        ({"template_file": "x"}, "template and template_file are both given"),
        ({"pattern": "x"}, "pattern: has 0 groups"),
        ({"template": "{{ prompt }}"}, "never shows the response"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, settings, message):
    with pytest.raises(RecipeError, match=message):
        make(counts_letters, tmp_path, **settings)


def test_a_template_in_a_file(tmp_path):
    (tmp_path / "judge.j2").write_text("File: {{ response }}\n")
    judge, script = make(lambda *_: says('{"score": 2}'), tmp_path, template=None, template_file=tmp_path / "judge.j2")
    judge.score(["p"], [["a"]])
    assert script.asked[0]["messages"][0]["content"] == "File: a\n"
    with pytest.raises(RecipeError, match=r"nowhere cannot be read \(No such file"):
        make(counts_letters, tmp_path, template=None, template_file=tmp_path / "nowhere")


def test_names_and_routes():
    settings = JudgeSettings(url="http://h:8000")
    judge = open_judge(settings)
    assert judge.name == "h:8000"
    assert judge.settings.url == judge.client.endpoint.url == "http://h:8000/v1/chat/completions"
    assert open_judge(replace(settings, model="m")).name == "m"
    assert open_judge(replace(settings, model="m", name="n")).name == "n"
    assert open_judge(settings, name="label").name == "label"


def test_a_judge_on_this_machine(tmp_path):
    def answer(path, payload):
        assert path == "/v1/chat/completions"
        return 200, says('Well.\n```json\n{"score": 6}\n```')

    with local_server(answer) as address:
        judge = open_judge(JudgeSettings(url=address, cache_folder=tmp_path))
        assert judge.score(["p"], [["a", "b"]]).reward.tolist() == [6, 6]
