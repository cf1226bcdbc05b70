import sys

import pytest

from trueup.data.rows import Message
from trueup.errors import RecipeError
from trueup.policies.base import Policy, Sample
from trueup.policies.function import FunctionPolicy, import_policy

CHAT = (Message("user", "Hi"),)


def test_texts_become_samples():
    asked = []

    def function(prompts, count, seed):
        asked.append((prompts, count, seed))
        return [(f"{seed}-{i}" for i in range(count)) for _ in prompts]

    policy = FunctionPolicy(function, "mine")
    assert isinstance(policy, Policy)
    assert policy.sample(["p", CHAT], 2, seed=12) == [[Sample("12-0", 4), Sample("12-1", 4)]] * 2
    assert asked == [(["p", [{"role": "user", "content": "Hi"}]], 2, 12)]
    assert policy.sample([], 2, seed=0) == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "mine returned None; return a list of responses for each prompt"),
        ("ab", "returned 'ab'; return a list"),
        ([["a", "b"]], "responses to 1 prompts, not 2"),
        ([["a", "b"], ["a"]], "returned 1 responses to prompt 2; return 2"),
        ([["a", "b"], ["a", "b", "c"]], "returned 3 responses to prompt 2"),
        ([["a", "b"], "ab"], "returned 'ab' for prompt 2; return a list of 2 texts"),
        ([["a", 3], ["a", "b"]], "returned 3 as a response to prompt 1"),
        ([5, 6], "returned 5 for prompt 1"),
    ],
)
def test_what_is_no_list_of_responses(returned, message):
    with pytest.raises(RecipeError, match=message):
        FunctionPolicy(lambda prompts, count, seed: returned, "mine").sample(["p", "q"], 2, seed=0)


def test_an_async_function():
    async def function(prompts, count, seed):
        return []

    with pytest.raises(RecipeError, match="async function"):
        FunctionPolicy(function, "mine").sample(["p"], 1, seed=0)


def test_a_function_by_name(tmp_path, monkeypatch):
    (tmp_path / "policies_to_import.py").write_text(
        "def f(prompts, count, seed):\n    return [['a']] * len(prompts)\nx = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert import_policy("policies_to_import:f").sample(["p"], 1, seed=0) == [[Sample("a", 1)]]
    assert sys.path == before
    with pytest.raises(RecipeError, match="is not a function; write a function f"):
        import_policy("policies_to_import:x")
    with pytest.raises(RecipeError, match=r"policies_to_import:g: cannot be imported \(AttributeError"):
        import_policy("policies_to_import:g")
    sys.modules.pop("policies_to_import")
