import sys

import pytest

from endpoints.doubles import local_server
from trueup.errors import RecipeError
from trueup.policies.function import FunctionPolicy
from trueup.policies.http import HttpPolicy
from trueup.policies.load import load_policy


def test_a_function_by_name(tmp_path, monkeypatch):
    (tmp_path / "policies_to_load.py").write_text("def f(prompts, count, seed):\n    return [['a']] * len(prompts)\n")
    monkeypatch.chdir(tmp_path)
    assert load_policy("policies_to_load:f").name == "f"
    labelled = load_policy("two=policies_to_load:f")
    assert isinstance(labelled, FunctionPolicy)
    assert labelled.name == "two"
    sys.modules.pop("policies_to_load")
    with pytest.raises(RecipeError, match="cannot be imported"):
        load_policy("no_such_module_at_all:f")


def test_a_server_by_address():
    policy = load_policy("http://h:8000?model=m&per_request=4", max_new_tokens=7, temperature=0.5, top_p=0.9)
    assert isinstance(policy, HttpPolicy)
    assert (policy.name, policy.settings.model, policy.settings.per_request) == ("m", "m", 4)
    assert (policy.max_new_tokens, policy.temperature, policy.top_p) == (7, 0.5, 0.9)
    assert policy.client.endpoint.url == "http://h:8000/v1/chat/completions"
    assert load_policy("mine=https://h/v1/completions?model=m").name == "mine"
    with pytest.raises(RecipeError, match=r"http://h: unknown field `modle`; did you mean `model`\?"):
        load_policy("http://h?modle=m")


def test_a_server_by_a_file(tmp_path):
    def answer(path, payload):
        return 200, {"choices": [{"message": {"content": payload["model"]}, "finish_reason": "stop"}]}

    with local_server(answer) as address:
        path = tmp_path / "policy.yaml"
        path.write_text(f"kind: http\nname: file's\nurl: {address}\nmodel: m\ncache_folder: {tmp_path}\n")
        policy = load_policy(str(path))
        assert policy.name == "file's"
        assert [[sample.text for sample in group] for group in policy.sample(["p"], 2, seed=0)] == [["m", "m"]]
        assert load_policy(f"label={path}").name == "label"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: judge\nurl: http://h", "a policy's `kind` is http"),
        ("model: m", "field `url` is missing"),
        ("url: http://h\nmax_tokens: 3", "unknown field `max_tokens`"),
        ("url: http://h\napi: chatty", "field `api`: .*got 'chatty'"),
    ],
)
def test_files_that_describe_no_policy(tmp_path, text, message):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"policy.yaml: .*{message}"):
        load_policy(str(tmp_path / "policy.yaml"))


def test_a_file_that_is_not_there():
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: settings cannot be read"):
        load_policy("nowhere.yaml")
