import sys

import numpy as np
import pytest
import torch

from trueup.data.rows import Message
from trueup.errors import NonFiniteError, RecipeError
from trueup.rewards.base import Reward
from trueup.rewards.function import FunctionReward, import_function


def length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


def test_one_number_per_response_in_order():
    reward = FunctionReward(length, "length")
    assert isinstance(reward, Reward)
    scores = reward.score(["p", "q"], [["a", "bcd"], [""]])
    assert scores.reward.tolist() == [1.0, 3.0, 0.0]
    assert scores.prompt.tolist() == [0, 0, 1]
    assert scores.length.tolist() == [1.0, 3.0, 0.0]
    assert len(reward.score([], []).reward) == 0


def test_arguments_are_those_of_trl():
    """Conversational prompts and completions are lists of turns, plain ones text; each prompt is repeated."""
    seen = []

    def spy(prompts, completions):
        seen.append((prompts, completions))
        return np.zeros(len(completions))

    FunctionReward(spy, "spy").score([(Message("user", "hi"),), "plain"], [["a", "b"], ["c"]])
    turn = [{"role": "user", "content": "hi"}]
    replies = [[{"role": "assistant", "content": text}] for text in "ab"]
    assert seen == [([turn, turn, "plain"], [*replies, "c"])]


@pytest.mark.parametrize("value", [0.0, -3, True, np.float32(0.5), torch.tensor(0.5)])
def test_any_finite_number_is_a_reward(value):
    scores = FunctionReward(lambda prompts, completions: [value], "f").score(["p"], [["a"]])
    assert scores.reward.tolist() == [float(value)]
    assert scores.reward.dtype == float


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([1.0], "returned 1 rewards for 2 responses"),
        ([1.0, 2.0, 3.0], "returned 3 rewards for 2 responses"),
        ([1.0, None], "returned None for response 1"),
        ([float("nan"), 1.0], "returned nan for response 0"),
        ([1.0, float("-inf")], "returned -inf for response 1"),
        (["1.0", 2.0], "returned '1.0' for response 0"),
        (None, "returned None; return a list"),
        (1.5, "returned 1.5; return a list"),
    ],
)
def test_anything_else_is_one_clear_message(returned, words):
    reward = FunctionReward(lambda prompts, completions: returned, "mine")
    with pytest.raises(RecipeError, match=f"mine {words}"):
        reward.score(["p"], [["a", "b"]])


def test_an_async_function_is_refused():
    async def later(prompts, completions):
        return [0.0]

    with pytest.raises(RecipeError, match="later is an async function"):
        FunctionReward(later, "later").score(["p"], [["a"]])


def test_import_by_name_also_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_rewards_here.py").write_text(
        "def one(prompts, completions):\n    return [1.0] * len(completions)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = list(sys.path)
    reward = import_function("my_rewards_here:one")
    assert reward.name == "one"
    assert reward.score(["p"], [["a"]]).reward.tolist() == [1.0]
    assert sys.path == before
    sys.modules.pop("my_rewards_here")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module_at_all:f", "cannot be imported .ModuleNotFoundError"),
        ("math:no_such_function", "cannot be imported .AttributeError"),
        ("math:", "cannot be imported"),
        ("math:pi", "is not a function"),
        ("fractions:Fraction", "is not a function"),
        ("broken_module_here:f", "cannot be imported .SyntaxError"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_message(path, words, tmp_path, monkeypatch):
    (tmp_path / "broken_module_here.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"{path.partition(':')[0]}.*{words}"):
        import_function(path)


def test_what_the_function_raises_is_told_with_its_place():
    def broken(prompts, completions):
        return [1.0 / len(text) for text in completions]

    with pytest.raises(
        RecipeError, match=r"^broken failed on 2 responses: ZeroDivisionError: .*test_function\.py:\d+, in"
    ) as told:
        FunctionReward(broken, "broken").score(["p"], [["a", ""]])
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_an_error_that_speaks_for_itself_is_left_as_it_is():
    def picky(prompts, completions):
        raise NonFiniteError("the judge is asleep")

    with pytest.raises(NonFiniteError, match=r"^the judge is asleep$"):
        FunctionReward(picky, "picky").score(["p"], [["a"]])
