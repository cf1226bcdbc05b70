"""The oracle: what it is, whether it says that it is consistent, and how far it is not."""

import json
import logging

import pytest

from small_inpo import small_recipe
from trueup.errors import RecipeError
from trueup.recipes import inpo_oracle
from trueup.recipes.inpo_oracle import check_oracle, open_oracle, says_consistent, with_memory
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.oracle import symmetrized
from trueup.rewards.reward_oracle import RewardOracle


def stated(prompts, first, second):
    """Says that it is consistent, and is not."""
    return [0.9] * len(first)


stated.consistent = True


def test_a_reward_and_whatever_says_so_are_consistent(tmp_path):
    recipe = small_recipe("m", tmp_path)
    judged, scored = open_oracle(recipe), open_oracle(small_recipe("m", tmp_path, oracle="small_inpo:score"))
    assert not says_consistent(judged)
    assert says_consistent(symmetrized(judged))
    assert isinstance(scored, RewardOracle)
    assert says_consistent(scored)
    assert says_consistent(FunctionOracle(stated, "stated"))
    judged.function.consistent = "no"
    try:
        assert not says_consistent(judged)
    finally:
        del judged.function.consistent


def test_the_scale_reaches_rewards_and_best_worst_needs_one(tmp_path):
    recipe = small_recipe("m", tmp_path, oracle="chars=small_inpo:score", oracle_scale=2.5, pairs="best_worst")
    oracle = open_oracle(recipe)
    assert (oracle.scale, oracle.name) == (2.5, "chars")
    with pytest.raises(RecipeError, match=r"small_inpo:prefer only compares; write --pairs tournament"):
        open_oracle(small_recipe("m", tmp_path, pairs="best_worst"))


def test_answers_of_a_changed_oracle_are_not_used(tmp_path, monkeypatch):
    recipe, answers = small_recipe("m", tmp_path), iter([0.2, 0.9])
    oracle = FunctionOracle(lambda prompts, first, second: [next(answers)], "judge")
    for version, expected in (("1", 0.2), ("2", 0.9), ("1", 0.2)):
        monkeypatch.setattr(inpo_oracle, "oracle_fingerprint", lambda _, known=version: known)
        assert with_memory(recipe, oracle).prefer(["x"], ["a"], ["b"]).tolist() == [expected]


def asked(recipe, oracle, *, consistent):
    check_oracle(recipe, oracle, ["x", "y"], first=["a", "c"], second=["b", "d"], consistent=consistent)
    return json.loads((recipe.output / "oracle.json").read_text())


def test_contradictions_are_written_down(tmp_path, caplog):
    """P(a > b) = 0.7 and P(b > a) = 0.5; P(c > d) = 0.6 and P(d > c) = 0.4: 0.2 and 0."""
    caplog.set_level(logging.INFO)
    table = {"a": 0.7, "b": 0.5, "c": 0.6, "d": 0.4}
    oracle = FunctionOracle(lambda prompts, first, second: [table[text] for text in first], "judge")
    told = asked(small_recipe("m", tmp_path), oracle, consistent=False)
    worst = {"prompt": "x", "first": "a", "second": "b", "forward": 0.7, "backward": 0.5}
    assert told["worst"][0] == worst
    assert told["mean"] == pytest.approx(0.1)
    assert told["position_bias"] == pytest.approx(0.1)
    assert (told["reversals"], told["comparisons"], told["limit"]) == (0.0, 2, 0.1)
    assert (told["oracle"], told["asked_in_both_orders"]) == ("judge", True)
    assert "judge contradicts itself by 0.100 on average over 2 pairs" in caplog.text


@pytest.mark.parametrize(
    ("limit", "share", "consistent", "message"),
    [
        (0.1, 0.9, False, "it favours what stands first"),
        (0.1, 0.2, False, "it favours what stands second"),
        (0.1, 0.9, True, "let it not say so"),
        (0.8, 0.9, False, None),
        (0.0, 0.5, False, None),
    ],
)
def test_too_much_is_a_warning_that_says_what_to_do(tmp_path, caplog, limit, share, consistent, message):
    oracle = FunctionOracle(lambda prompts, first, second: [share] * len(first), "judge")
    told = asked(small_recipe("m", tmp_path, max_contradiction=limit), oracle, consistent=consistent)
    assert told["mean"] == pytest.approx(abs(2 * share - 1))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (message is not None)
    if message is not None:
        assert message in warnings[0]
        assert f"more than max_contradiction ({limit:g})" in warnings[0]
        assert str(tmp_path / "inpo" / "oracle.json") in warnings[0]
