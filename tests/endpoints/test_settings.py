from pathlib import Path

import pytest

from trueup.endpoints.settings import Endpoint, build, is_settings_file, read_address, read_settings, split_label
from trueup.errors import RecipeError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "localhost:8000"}, "is no address; expected http://HOST"),
        ({"url": "ftp://host"}, "is no address"),
        ({"url": "http://"}, "is no address"),
        ({"url": "http://h:port"}, "is no address"),
        ({"url": ""}, "is no address"),
        ({"url": "http://h", "timeout_seconds": 0}, "timeout_seconds must be positive, got 0"),
        ({"url": "http://h", "timeout_seconds": float("nan")}, "timeout_seconds must be positive"),
        ({"url": "http://h", "requests_per_minute": -1}, "requests_per_minute must be positive"),
        ({"url": "http://h", "attempts": 0}, "attempts must be at least 1"),
        ({"url": "http://h", "concurrent": 0}, "concurrent must be at least 1"),
        ({"url": "http://h", "cache_folder": "~nobody-at-all/x"}, "no known user"),
        ({}, "field `url` is missing"),
        ({"url": "http://h", "attempts": "many"}, "field `attempts`: .*got 'many'"),
        ({"url": "http://h", "concurent": 3}, "unknown field `concurent`; did you mean `concurrent`"),
        ({"url": "http://h", "zzz": 3}, "unknown field `zzz`; known: url, "),
    ],
)
def test_values_that_cannot_be_used(values, message):
    with pytest.raises(RecipeError, match=f"place: .*{message}"):
        build(Endpoint, values, place="place")


def test_values_as_text_are_read():
    found = build(Endpoint, {"url": "http://h", "concurrent": "3", "cache": "false", "cache_folder": "~"}, place="p")
    assert (found.concurrent, found.cache, found.cache_folder) == (3, False, Path.home())


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(RecipeError, match="api_key_env") as raised:
        Endpoint(url="http://me:hidden@h")
    assert "hidden" not in str(raised.value)


def test_what_is_shown_of_an_address():
    endpoint = Endpoint(url="https://h:8443/v1?key=hidden#x")
    assert endpoint.address == "https://h:8443/v1"
    assert endpoint.host == "h:8443"


@pytest.mark.parametrize(("key", "message"), [(None, "is not set"), ("  ", "is not set"), ("a\nb", "no API key has")])
def test_a_key_that_cannot_be_used(monkeypatch, key, message):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(RecipeError, match=f"SOME_KEY.*{message}"):
        Endpoint(url="http://h", api_key_env="SOME_KEY").api_key()


def test_a_key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", " abc\n")
    assert Endpoint(url="http://h", api_key_env="SOME_KEY").api_key() == "abc"
    assert Endpoint(url="http://h").api_key() is None


def test_settings_in_an_address():
    assert read_address("http://h:1/p?model=a%2Fb&x=1") == {"url": "http://h:1/p", "model": "a/b", "x": "1"}
    assert read_address("http://h") == {"url": "http://h"}
    with pytest.raises(RecipeError, match="`model` is given twice"):
        read_address("http://h?model=a&model=b")
    with pytest.raises(RecipeError, match="`url` is given twice"):
        read_address("http://h?url=http://g")


def test_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1").mkdir()
    assert split_label("lr=1") == ("", "lr=1")
    assert split_label("lr=2") == ("lr", "2")
    assert split_label("a=lr=1") == ("a", "lr=1")
    assert split_label("http://h?model=x") == ("", "http://h?model=x")
    assert split_label("judge:http://h?model=x") == ("", "judge:http://h?model=x")
    assert split_label("me=judge:http://h?model=x") == ("me", "judge:http://h?model=x")
    assert split_label("implicit:runs/dpo?beta=0.1") == ("", "implicit:runs/dpo?beta=0.1")
    assert split_label("me=implicit:runs/dpo?beta=0.1") == ("me", "implicit:runs/dpo?beta=0.1")
    assert split_label("plain") == ("", "plain")
    assert split_label("a\0=b") == ("a\0", "b")


def test_files_of_settings(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("url: http://h\nextra: {top_k: 5}\n")
    assert read_settings(path) == {"url": "http://h", "extra": {"top_k": 5}}
    (tmp_path / "s.json").write_text('{"url": "http://h"}')
    assert read_settings(tmp_path / "s.json") == {"url": "http://h"}
    assert is_settings_file("a/b.yml")
    assert not is_settings_file("a/b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\nb: 2", r"s.yaml:\d: settings cannot be read"),
        (b"\xff\xfe\xfa", "settings cannot be read"),
        (b"- 1\n", "holds no settings; expected fields"),
        (b"", "holds no settings"),
        (b"a: 2024-99-99", "settings cannot be read"),
    ],
)
def test_files_that_hold_none(tmp_path, content, message):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        read_settings(tmp_path / "s.yaml")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere.yaml: settings cannot be read \(No such file"):
        read_settings(tmp_path / "nowhere.yaml")
