import math

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.doubles import FakeClock, Script, local_server
from trueup.data.rows import Message
from trueup.endpoints.client import Client
from trueup.endpoints.failure import EndpointError
from trueup.errors import DataError, RecipeError
from trueup.policies.base import Policy
from trueup.policies.http import HttpPolicy, HttpPolicySettings, open_http_policy

CHAT = (Message("system", "Be brief"), Message("user", "Hi"))


def make(script, tmp_path=None, *, max_new_tokens=20, temperature=1.0, top_p=1.0, **settings):
    known = HttpPolicySettings(
        url="http://host/v1/chat/completions", cache=tmp_path is not None, cache_folder=tmp_path, **settings
    )
    return HttpPolicy(
        settings=known,
        client=Client(known, transport=script.transport(), clock=FakeClock()),
        name="policy",
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
    )


def question(payload):
    return payload["prompt"] if "prompt" in payload else payload["messages"][-1]["content"]


def server(gives=None, *, reason="stop", usage=True):
    """Answers `n` times, or as often as it can; a reply names the prompt, the seed and its number."""

    def answer(payload, number=0):
        count = min(payload.get("n", 1), gives or 10**6)
        texts = [f"{question(payload)}/{payload['seed']}/{i}" for i in range(count)]
        choices = [
            {"index": i, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ]
        return {"choices": choices, **({"usage": {"completion_tokens": 5 * count}} if usage else {})}

    return answer


@given(
    prompts=st.lists(st.sampled_from(["a", "b", "c"]), max_size=5),
    count=st.integers(1, 20),
    per_request=st.integers(1, 7),
    gives=st.integers(1, 7),
)
def test_there_are_as_many_as_asked_for_and_all_are_different(prompts, count, per_request, gives):
    """Whatever the server gives at a time; a prompt that comes twice is answered afresh."""
    drawn = make(Script(server(gives)), per_request=per_request).sample(prompts, count, seed=1)
    assert [len(group) for group in drawn] == [count] * len(prompts)
    assert all(
        sample.text.startswith(prompt + "/") for prompt, group in zip(prompts, drawn, strict=True) for sample in group
    )
    texts = [sample.text for group in drawn for sample in group]
    assert len(set(texts)) == len(texts)


def test_what_is_asked():
    script = Script(server())
    policy = make(script, model="m", temperature=0.7, top_p=0.9, max_new_tokens=33, extra={"top_k": 5}, per_request=3)
    assert isinstance(policy, Policy)
    policy.sample([CHAT], 4, seed=0)
    seeds = [payload.pop("seed") for payload in script.asked]
    assert len(set(seeds)) == 2
    assert all(0 <= seed < 2**31 for seed in seeds)
    turns = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    common = {"messages": turns, "model": "m", "max_tokens": 33, "temperature": 0.7, "top_p": 0.9, "top_k": 5}
    assert sorted(script.asked, key=len) == [common, {**common, "n": 3}]


def test_the_seed_alone_decides():
    def texts(seed):
        return [[s.text for s in group] for group in make(Script(server())).sample(["a", "b"], 3, seed=seed)]

    assert texts(1) == texts(1)
    assert not set(texts(1)[0]) & set(texts(2)[0])


def test_a_server_that_gives_one_at_a_time_is_asked_in_two_rounds():
    script = Script(server(1))
    make(script).sample(["a"], 10, seed=0)
    assert [payload.get("n") for payload in script.asked] == [10] + [None] * 9
    assert len({payload["seed"] for payload in script.asked}) == 10


def test_more_than_asked_for_is_not_taken():
    script = Script(lambda payload, number: server()({**payload, "n": 9}))
    assert [len(group) for group in make(script).sample(["a", "b"], 2, seed=0)] == [2, 2]


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_that_refuses_several_is_asked_for_one_at_a_time(code):
    def answer(payload, number):
        if payload.get("n", 1) > 1:
            return httpx2.Response(code, text="Only one completion choice is allowed")
        return server()(payload)

    script = Script(answer)
    drawn = make(script, concurrent=1).sample(["a", "b"], 3, seed=0)
    assert [len({sample.text for sample in group}) for group in drawn] == [3, 3]
    assert len(script.asked) == 7


def test_a_refusal_for_another_reason_is_told():
    script = Script(lambda payload, number: httpx2.Response(400, text="prompt is too long"))
    with pytest.raises(EndpointError, match="prompt is too long"):
        make(script).sample(["a"], 3, seed=0)
    assert len(script.asked) == 2
    with pytest.raises(EndpointError, match="status 401"):
        make(Script(lambda payload, number: httpx2.Response(401))).sample(["a"], 3, seed=0)


@pytest.mark.parametrize(
    ("reason", "finished"), [("stop", True), ("length", False), (None, False), ("content_filter", False)]
)
def test_how_it_ended(reason, finished):
    assert make(Script(server(reason=reason))).sample(["a"], 1, seed=0)[0][0].finished is finished


def test_lengths_are_tokens_where_each_is_counted_else_characters():
    for count, usage, expected in [(1, True, 5), (1, False, None), (2, True, None)]:
        group = make(Script(server(usage=usage))).sample(["abc"], count, seed=0)[0]
        assert [sample.tokens for sample in group] == [expected or len(sample.text) for sample in group]


def test_lengths_have_one_unit():
    """Three responses, two in a request: the last one alone is counted by the server, so none is taken to be."""
    group = make(Script(server()), per_request=2).sample(["abc"], 3, seed=0)[0]
    assert [sample.tokens for sample in group] == [len(sample.text) for sample in group]


def test_logprobs_of_a_chat():
    def answer(payload, number):
        assert payload["logprobs"] is True
        found = server()(payload)
        for i, choice in enumerate(found["choices"]):
            choice["logprobs"] = {"content": [{"logprob": -0.25}, {"logprob": math.log(0.5)}, {"logprob": -i}]}
        return found

    group = make(Script(answer), logprobs=True).sample(["a"], 2, seed=0)[0]
    assert [sample.logprob for sample in group] == pytest.approx([-0.25 - math.log(2), -1.25 - math.log(2)])
    assert [sample.tokens for sample in group] == [3, 3]


def test_logprobs_that_were_not_asked_for_or_not_given():
    def answer(payload, number):
        found = server()(payload)
        found["choices"][0]["logprobs"] = {"content": [{"logprob": -1.0}]}
        return found

    assert make(Script(answer)).sample(["a"], 1, seed=0)[0][0].logprob is None
    assert make(Script(server()), logprobs=True).sample(["a"], 1, seed=0)[0][0].logprob is None


def test_a_route_for_text(tmp_path):
    def answer(path, payload):
        assert path == "/v1/completions"
        assert payload["logprobs"] == 1
        one = {"text": payload["prompt"] + "!", "logprobs": {"token_logprobs": [-1.5]}, "finish_reason": "stop"}
        return 200, {"choices": [one], "usage": {"completion_tokens": 1}}

    with local_server(answer) as address:
        settings = HttpPolicySettings(url=address, api="completions", cache_folder=tmp_path, logprobs=True)
        policy = open_http_policy(settings, max_new_tokens=4)
        drawn = policy.sample(["a", "b"], 3, seed=0)
        with pytest.raises(DataError, match=r"2: a chat prompt cannot be sent .* /v1/chat/completions"):
            policy.sample(["a", CHAT], 1, seed=0)
    assert [[(s.text, s.tokens, s.finished, s.logprob) for s in group] for group in drawn] == [
        [("a!", 1, True, -1.5)] * 3,
        [("b!", 1, True, -1.5)] * 3,
    ]


def test_a_broken_run_continues_and_repeats(tmp_path):
    """Even where the server heeds no seed: what was drawn is kept."""
    numbers = iter(range(1000))

    def answer(payload, number):
        if number == 5:
            return httpx2.Response(403)
        return {"choices": [{"message": {"content": str(next(numbers))}}]}

    first = Script(answer)
    with pytest.raises(EndpointError, match="are kept, so that another run continues"):
        make(first, tmp_path, per_request=1, concurrent=1).sample(["a", "b"], 4, seed=3)
    second = Script(lambda payload, number: {"choices": [{"message": {"content": str(next(numbers))}}]})
    drawn = make(second, tmp_path, per_request=1).sample(["a", "b"], 4, seed=3)
    assert len(second.asked) == 3
    assert {sample.text for group in drawn for sample in group} == {str(i) for i in range(8)}
    third = Script(answer)
    assert make(third, tmp_path, per_request=1).sample(["b", "a"], 4, seed=3) == drawn[::-1]
    assert third.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_request": 0}, "per_request must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -0.1}, "temperature must not be negative"),
        ({"temperature": float("nan")}, "temperature must not be negative"),
        ({"top_p": 0}, "top_p must be in"),
        ({"top_p": 1.1}, "top_p must be in"),
        ({"logprobs": True, "temperature": 0.7}, "logprobs at temperature 0.7 and top_p 1 are not those"),
        ({"logprobs": True, "top_p": 0.9}, "leave logprobs out"),
    ],
)
def test_settings_that_cannot_be_used(arguments, message):
    with pytest.raises(RecipeError, match=message):
        make(Script(server()), **arguments)


def test_names():
    settings = HttpPolicySettings(url="http://h:1", model="m")
    assert open_http_policy(settings).name == "m"
    assert open_http_policy(settings, name="label").name == "label"
    assert open_http_policy(HttpPolicySettings(url="http://h:1")).name == "h:1"
    assert open_http_policy(settings).client.endpoint.url == "http://h:1/v1/chat/completions"
