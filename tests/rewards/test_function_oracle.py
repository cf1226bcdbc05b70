import sys

import pytest

from trueup.data.rows import Message
from trueup.errors import DataError, RecipeError
from trueup.rewards.function_oracle import FunctionOracle, compares, import_oracle


def longer(prompts, first, second):
    return [float(len(a) > len(b)) for a, b in zip(first, second, strict=True)]


def test_one_probability_for_each_comparison_in_order():
    assert FunctionOracle(longer, "longer").prefer(["p", "q"], ["ab", "a"], ["a", "ab"]).tolist() == [1, 0]
    assert FunctionOracle(longer, "longer").prefer([], [], []).shape == (0,)


def test_chat_prompts_are_turns_and_responses_text():
    seen = []

    def spy(prompts, first, second):
        seen.append((prompts, first, second))
        return (0.5 for _ in prompts)

    FunctionOracle(spy, "spy").prefer([(Message("user", "hi"),), "plain"], ("a", "b"), ("c", "d"))
    assert seen == [([[{"role": "user", "content": "hi"}], "plain"], ["a", "b"], ["c", "d"])]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([0.5], "mine returned 1 probabilities for 2 comparisons"),
        ([0.5, 2], "mine returned 2 for comparison 1"),
        ([0.5, float("nan")], "mine returned nan for comparison 1"),
        (0.5, "mine returned 0.5; return a list"),
        (None, "mine returned None; return a list"),
    ],
)
def test_anything_else_is_one_clear_message(returned, words):
    with pytest.raises(RecipeError, match=words):
        FunctionOracle(lambda prompts, first, second: returned, "mine").prefer(["p"] * 2, ["a"] * 2, ["b"] * 2)


def test_a_function_that_fails_is_named():
    with pytest.raises(RecipeError, match="bad failed on 1 comparisons: ZeroDivisionError: "):
        FunctionOracle(lambda prompts, first, second: [1 / 0], "bad").prefer(["p"], ["a"], ["b"])


def test_errors_of_ours_pass_through():
    def ours(prompts, first, second):
        raise DataError("no such answer", row=3)

    with pytest.raises(DataError, match="no such answer"):
        FunctionOracle(ours, "ours").prefer(["p"], ["a"], ["b"])


def test_an_async_function_is_refused():
    async def later(prompts, first, second):
        return [0.5]

    with pytest.raises(RecipeError, match="later is an async function"):
        FunctionOracle(later, "later").prefer(["p"], ["a"], ["b"])


def test_import_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_oracles_here.py").write_text(
        "def even(prompts, first, second):\n    return [0.5] * len(first)\n\n\n"
        "def scores(prompts, completions):\n    return [0.0] * len(completions)\n"
    )
    monkeypatch.chdir(tmp_path)
    oracle = import_oracle("my_oracles_here:even")
    assert (oracle.name, oracle.prefer(["p"], ["a"], ["b"]).tolist()) == ("even", [0.5])
    assert compares(oracle.function)
    assert not compares(import_oracle("my_oracles_here:scores").function)
    sys.modules.pop("my_oracles_here")
    with pytest.raises(RecipeError, match=r"cannot be imported .*ModuleNotFoundError"):
        import_oracle("no_such_module_at_all:f")
    with pytest.raises(RecipeError, match=r"write a function f\(prompts, first, second\)"):
        import_oracle("math:pi")


def test_a_function_without_a_signature_does_not_compare():
    assert not compares(dict.fromkeys)
    assert not compares(max)
