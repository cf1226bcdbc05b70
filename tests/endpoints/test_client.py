import itertools
import logging
import threading
import time

import httpx2
import pytest

from endpoints.doubles import FakeClock, Script, local_server
from trueup.endpoints.client import Client
from trueup.endpoints.failure import EndpointError
from trueup.endpoints.settings import Endpoint
from trueup.errors import OutputError, RecipeError, TrueupError

URL = "http://host/score"


def make(script, tmp_path, clock=None, **settings):
    endpoint = Endpoint(url=URL, cache_folder=tmp_path / "cache", **settings)
    return Client(endpoint, transport=script.transport(), clock=clock or FakeClock())


def double(answer, number):
    return 2 * answer["x"]


def echo(payload, number):
    return payload


def status(code, headers=None, text="busy"):
    return httpx2.Response(code, headers=headers, text=text)


def test_answers_come_in_the_order_of_the_questions(tmp_path):
    def slower_first(payload, number):
        time.sleep(0.002 * (10 - payload["x"]))
        return payload

    client = make(Script(slower_first), tmp_path)
    assert client.ask([{"x": x} for x in range(10)], read=double) == [2 * x for x in range(10)]
    assert client.ask([], read=double) == []


def test_the_number_of_the_question_is_known_to_the_reader(tmp_path):
    client = make(Script(echo), tmp_path)
    assert client.ask([{"x": x} for x in (5, 6, 5, 7)], read=lambda answer, number: number) == [0, 1, 0, 3]


def test_nothing_is_asked_twice(tmp_path):
    script = Script(echo)
    client = make(script, tmp_path)
    assert client.ask([{"x": 1}, {"x": 2}, {"x": 1}], read=double) == [2, 4, 2]
    assert len(script.asked) == 2
    assert make(script, tmp_path).ask([{"x": 2}, {"x": 3}], read=double) == [4, 6]
    assert [payload["x"] for payload in script.asked[2:]] == [3]


def test_another_address_is_another_question(tmp_path):
    script = Script(echo)
    make(script, tmp_path).ask([{"x": 1}], read=double)
    other = Endpoint(url=URL + "?model=b", cache_folder=tmp_path / "cache")
    Client(other, transport=script.transport(), clock=FakeClock()).ask([{"x": 1}], read=double)
    assert script.urls == [URL, URL + "?model=b"]


def test_without_a_cache_each_call_asks_afresh(tmp_path):
    script = Script(echo)
    client = make(script, tmp_path, cache=False)
    client.ask([{"x": 1}], read=double)
    client.ask([{"x": 1}], read=double)
    assert len(script.asked) == 2
    assert not (tmp_path / "cache").exists()


def test_the_default_cache_lies_among_the_users_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "mine"))
    Client(Endpoint(url=URL), transport=Script(echo).transport()).ask([{"x": 1}], read=double)
    assert (tmp_path / "mine" / "endpoints" / "answers.sqlite3").is_file()


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 529])
def test_passing_trouble_is_waited_out(tmp_path, code):
    clock = FakeClock()
    script = Script(lambda payload, number: status(code) if number < 3 else payload)
    assert make(script, tmp_path, clock).ask([{"x": 4}], read=double) == [8]
    assert len(script.asked) == 4
    assert len(clock.slept) == 3
    for slept, whole in zip(clock.slept, [1, 2, 4], strict=True):
        assert whole / 2 <= slept < whole


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow"), httpx2.RemoteProtocolError("gone")]
)
def test_a_connection_that_breaks_is_tried_again(tmp_path, error):
    script = Script(lambda payload, number: error if number < 2 else payload)
    assert make(script, tmp_path).ask([{"x": 4}], read=double) == [8]
    assert len(script.asked) == 3


def test_the_spread_of_waiting_depends_on_the_question_alone(tmp_path):
    def waits(x, folder):
        clock = FakeClock()
        script = Script(lambda payload, number: status(500) if number < 3 else payload)
        make(script, tmp_path / folder, clock).ask([{"x": x}], read=double)
        return clock.slept

    assert waits(1, "a") == waits(1, "b") != waits(2, "a")


def test_patience_has_an_end(tmp_path):
    script = Script(lambda payload, number: status(503, text="  model is\n loading "))
    with pytest.raises(EndpointError) as raised:
        make(script, tmp_path, attempts=4).ask([{"x": 1}], read=double)
    error = raised.value
    assert (error.url, error.attempts, error.status, len(script.asked)) == (URL, 4, 503, 4)
    assert str(error) == (
        "http://host/score: status 503: 'model is loading' (4 attempts); look at the server's log, or run again later"
    )
    assert isinstance(error, OSError)
    assert isinstance(error, TrueupError)


def test_no_answer_at_all(tmp_path):
    script = Script(lambda payload, number: httpx2.ConnectTimeout(""))
    with pytest.raises(EndpointError, match=r"no answer \(ConnectTimeout\) \(2 attempts\); check that the") as raised:
        make(script, tmp_path, attempts=2).ask([{"x": 1}], read=double)
    assert raised.value.status is None


@pytest.mark.parametrize(("code", "cure"), [(400, ""), (401, "API key"), (403, "API key"), (404, "path"), (422, "")])
def test_a_refusal_is_final(tmp_path, code, cure):
    script = Script(lambda payload, number: status(code, text="n must be 1"))
    with pytest.raises(EndpointError, match=f"status {code}: 'n must be 1'.*{cure}"):
        make(script, tmp_path).ask([{"x": 1}], read=double)
    assert len(script.asked) == 1


def test_a_redirection_is_reported_and_not_followed(tmp_path):
    script = Script(lambda payload, number: status(307, headers={"location": "http://elsewhere/x"}))
    with pytest.raises(EndpointError, match=r"status 307: .*points to http://elsewhere/x"):
        make(script, tmp_path).ask([{"x": 1}], read=double)
    assert script.urls == [URL]


def test_what_the_server_asks_for_is_obeyed(tmp_path):
    clock = FakeClock()
    script = Script(lambda payload, number: status(429, {"Retry-After": "17"}) if number == 0 else payload)
    assert make(script, tmp_path, clock).ask([{"x": 1}], read=double) == [2]
    assert clock.now() == 17


def test_a_server_that_wants_to_be_left_alone_for_hours(tmp_path):
    clock = FakeClock()
    script = Script(lambda payload, number: status(429, {"Retry-After": "7200"}))
    with pytest.raises(EndpointError, match=r"asks to wait 7200 seconds\); run again then"):
        make(script, tmp_path, clock).ask([{"x": 1}], read=double)
    assert clock.slept == []


def test_the_rate_limit_holds_over_calls_and_repeated_attempts(tmp_path):
    clock, times = FakeClock(), []

    def answer(payload, number):
        times.append(clock.now())
        return status(500) if number == 0 else payload

    client = make(Script(answer), tmp_path, clock, requests_per_minute=6, concurrent=1)
    client.ask([{"x": 1}, {"x": 2}], read=double)
    client.ask([{"x": 3}], read=double)
    assert len(times) == 4
    assert all(later - sooner >= 10 - 1e-9 for sooner, later in itertools.pairwise(times))


def test_no_more_requests_under_way_than_allowed(tmp_path):
    lock, now, most = threading.Lock(), 0, 0

    def answer(payload, number):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return payload

    make(Script(answer), tmp_path, concurrent=3).ask([{"x": x} for x in range(12)], read=double)
    assert most == 3


def test_what_was_answered_before_a_failure_is_kept(tmp_path):
    script = Script(lambda payload, number: status(400) if payload["x"] == 3 else payload)
    with pytest.raises(EndpointError, match="3 of 9 requests were answered and are kept, so that another run"):
        make(script, tmp_path, concurrent=1).ask([{"x": x} for x in range(9)], read=double)
    mended = Script(echo)
    assert make(mended, tmp_path).ask([{"x": x} for x in range(9)], read=double) == [2 * x for x in range(9)]
    assert sorted(payload["x"] for payload in mended.asked) == [3, 4, 5, 6, 7, 8]


def test_a_failure_waits_for_what_is_under_way_and_begins_nothing_more(tmp_path):
    under_way = threading.Event()

    def answer(payload, number):
        if payload["x"] == 0:
            under_way.wait(5)
            return status(400)
        under_way.set()
        time.sleep(0.4)
        return payload

    script = Script(answer)
    with pytest.raises(EndpointError, match="1 of 20 requests"):
        make(script, tmp_path, concurrent=2).ask([{"x": x} for x in range(20)], read=double)
    assert len(script.asked) == 2
    again = Script(echo)
    make(again, tmp_path).ask([{"x": 1}], read=double)
    assert again.asked == []


def test_an_answer_that_cannot_be_read_is_not_kept(tmp_path):
    def read(answer, number):
        if "x" not in answer:
            raise EndpointError("has no x", url=URL)
        return answer["x"]

    with pytest.raises(EndpointError, match="has no x"):
        make(Script(lambda payload, number: {}), tmp_path).ask([{"x": 1}], read=read)
    assert make(Script(echo), tmp_path).ask([{"x": 1}], read=read) == [1]


def test_a_kept_answer_that_another_reader_cannot_use_is_asked_for_again(tmp_path, caplog):
    make(Script(lambda payload, number: "old"), tmp_path).ask([{"x": 1}], read=lambda answer, number: answer)

    def read(answer, number):
        if answer == "old":
            raise EndpointError("of old", url=URL)
        return answer

    script = Script(lambda payload, number: "new")
    assert make(script, tmp_path).ask([{"x": 1}], read=read) == ["new"]
    assert make(script, tmp_path).ask([{"x": 1}], read=read) == ["new"]
    assert len(script.asked) == 1
    assert "asked for again" in caplog.text


@pytest.mark.parametrize("text", ["<html>hello</html>", "", "{'a': 1}", "[" * 100_000])
def test_an_answer_that_is_no_json(tmp_path, text):
    with pytest.raises(EndpointError, match=r"is no JSON: .*check the url"):
        make(Script(lambda payload, number: httpx2.Response(200, text=text)), tmp_path).ask([{"x": 1}], read=double)


def test_a_payload_that_is_no_json(tmp_path):
    for wrong in (float("nan"), {1, 2}):
        with pytest.raises(RecipeError, match="cannot be written as JSON"):
            make(Script(echo), tmp_path).ask([{"x": wrong}], read=double)


def test_any_text_can_be_sent(tmp_path):
    texts = ["é", "\ud800", "\x00", '"\\', "\u2028", ""]
    client = make(Script(echo), tmp_path)
    assert client.ask([{"x": text} for text in texts], read=lambda answer, number: answer["x"]) == texts


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        make(Script(echo), tmp_path).ask([{"x": 1}], read=double)


def test_the_key_is_sent_and_left_nowhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    script = Script(lambda payload, number: payload if payload["x"] else status(401, text="bad key sk-very-secret"))
    client = make(script, tmp_path, api_key_env="SOME_KEY")
    with caplog.at_level(logging.DEBUG):
        client.ask([{"x": 1}], read=double)
        with pytest.raises(EndpointError, match=r"bad key \*\*\*") as raised:
            client.ask([{"x": 0}], read=double)
    assert script.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(raised.value) + caplog.text + repr(client.endpoint)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_the_key_has_no_part_in_what_is_kept(tmp_path, monkeypatch):
    script = Script(echo)
    for key in ("one", "two"):
        monkeypatch.setenv("SOME_KEY", key)
        make(script, tmp_path, api_key_env="SOME_KEY").ask([{"x": 1}], read=double)
    assert len(script.asked) == 1
    monkeypatch.delenv("SOME_KEY")  # what is known needs no key
    assert make(script, tmp_path, api_key_env="SOME_KEY").ask([{"x": 1}], read=double) == [2]
    with pytest.raises(RecipeError, match="SOME_KEY is not set"):
        make(script, tmp_path, api_key_env="SOME_KEY").ask([{"x": 2}], read=double)


def test_an_error_of_the_readers_own_comes_through(tmp_path):
    with pytest.raises(ZeroDivisionError):
        make(Script(echo), tmp_path).ask([{"x": x} for x in range(5)], read=lambda answer, number: 1 / 0)


def test_a_real_server_that_drops_connections(tmp_path):
    seen, lock = {}, threading.Lock()

    def answer(path, payload):
        assert path == "/score"
        with lock:
            seen[payload["x"]] = seen.get(payload["x"], 0) + 1
            first = seen[payload["x"]] == 1
        if payload["x"] % 3 == 0 and first:
            return None
        if payload["x"] % 3 == 1 and first:
            return 503, {"error": "busy"}
        return 200, payload

    with local_server(answer) as address:
        endpoint = Endpoint(url=address + "/score", cache_folder=tmp_path, concurrent=4)
        found = Client(endpoint, clock=FakeClock()).ask([{"x": x} for x in range(20)], read=double)
    assert found == [2 * x for x in range(20)]
    assert sum(seen.values()) == 20 + 14


def test_a_real_server_that_is_not_there(tmp_path):
    with local_server(lambda path, payload: (200, {})) as address:
        pass
    endpoint = Endpoint(url=address, cache_folder=tmp_path, attempts=2)
    with pytest.raises(EndpointError, match=r"no answer \(.*refused.*\) \(2 attempts\); check that the server runs"):
        Client(endpoint, clock=FakeClock()).ask([{"x": 1}], read=double)


def test_a_real_server_that_is_too_slow(tmp_path):
    def answer(path, payload):
        time.sleep(0.3)
        return 200, payload

    with local_server(answer) as address:
        endpoint = Endpoint(url=address, cache_folder=tmp_path, attempts=1, timeout_seconds=0.05)
        with pytest.raises(EndpointError, match=r"no answer \(.*timed out.*timeout_seconds"):
            Client(endpoint, clock=FakeClock()).ask([{"x": 1}], read=double)
