import math
import sys

import pytest

from trueup.errors import RecipeError
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.judge_oracle import JudgeOracle
from trueup.rewards.load_oracle import load_oracle
from trueup.rewards.reward_oracle import RewardOracle


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "functions_here.py").write_text(
        "def even(prompts, first, second):\n    return [0.5] * len(first)\n\n\n"
        "def length(prompts, completions):\n    return [float(len(text)) for text in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("functions_here", None)


@pytest.mark.usefixtures("functions")
def test_a_function_compares_or_scores_by_its_arguments():
    compares = load_oracle("functions_here:even")
    assert isinstance(compares, FunctionOracle)
    assert compares.name == "even"
    assert load_oracle("fair=functions_here:even").name == "fair"
    scores = load_oracle("functions_here:length", scale=2)
    assert isinstance(scores, RewardOracle)
    assert scores.prefer(["p"], ["abc"], ["a"]) == pytest.approx([1 / (1 + math.exp(-1))])
    assert load_oracle("long=functions_here:length").name == "long"


def test_a_judge_is_asked_about_pairs():
    oracle = load_oracle("judge:http://h:8000?model=m")
    assert isinstance(oracle, JudgeOracle)
    assert oracle.name == "m"
    assert "Compare two responses" in oracle.judge.settings.question()


def test_a_reward_server_is_compared_by_bradley_terry():
    assert isinstance(load_oracle("http://h:8000/get_reward"), RewardOracle)


def test_what_is_no_oracle():
    with pytest.raises(RecipeError, match="cannot be imported"):
        load_oracle("no_such_module_at_all:f")
