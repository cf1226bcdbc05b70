"""What was said before is not asked again."""

import sqlite3

import numpy as np
import pytest

from trueup.data.rows import Message
from trueup.errors import RecipeError
from trueup.rewards.kept_answers import KeptOracle, KnownReward
from trueup.rewards.oracle import PreferenceOracle, symmetrized

CHAT = (Message("user", "x"),)


class Asked:
    """P(a > b) by length, a little more for what stands first; says what it was asked."""

    name = "asked"

    def __init__(self, *, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def prefer(self, prompts, first, second):
        if len(self.asked) == self.fails_at:
            raise ConnectionError("gone")
        self.asked.append(list(zip(prompts, first, second, strict=True)))
        return np.asarray([len(a) / (len(a) + len(b)) * 0.9 + 0.1 for a, b in zip(first, second, strict=True)])


def test_equal_comparisons_are_asked_once_and_orders_apart(tmp_path):
    oracle = Asked()
    kept = KeptOracle(oracle=oracle, folder=tmp_path)
    assert isinstance(kept, PreferenceOracle)
    assert kept.name == "asked"
    told = kept.prefer(["x", "x", "x", CHAT], ["a", "bb", "a", "a"], ["bb", "a", "bb", "bb"])
    assert told.tolist() == pytest.approx([0.4, 0.7, 0.4, 0.4])
    assert oracle.asked == [[("x", "a", "bb"), ("x", "bb", "a"), (CHAT, "a", "bb")]]
    again = KeptOracle(oracle=oracle, folder=tmp_path)
    assert again.prefer(["x", "x"], ["bb", "a"], ["a", "ccc"]).tolist() == pytest.approx([0.7, 0.325])
    assert oracle.asked[1:] == [[("x", "a", "ccc")]]
    assert again.prefer([], [], []).shape == (0,)


def test_it_changes_no_answer(tmp_path):
    texts = [("a" * i, "b" * j) for i in range(1, 5) for j in range(1, 5)]
    first, second = zip(*texts, strict=True)
    plain = symmetrized(Asked()).prefer(["x"] * 16, first, second)
    kept = symmetrized(KeptOracle(oracle=Asked(), folder=tmp_path, at_a_time=3))
    for _ in range(2):
        assert kept.prefer(["x"] * 16, first, second).tolist() == plain.tolist()


def test_what_was_answered_before_a_failure_is_kept(tmp_path):
    first, second = list("abcdefg"), ["zz"] * 7
    failing = Asked(fails_at=2)
    with pytest.raises(ConnectionError):
        KeptOracle(oracle=failing, folder=tmp_path, at_a_time=2).prefer(["x"] * 7, first, second)
    later = Asked()
    KeptOracle(oracle=later, folder=tmp_path, at_a_time=2).prefer(["x"] * 7, first, second)
    asked = [one[1] for part in failing.asked + later.asked for one in part]
    assert sorted(asked) == first
    assert len(later.asked) == 2


def test_another_state_of_the_oracle_is_asked_anew(tmp_path):
    oracle = Asked()
    for identity in ("", "1", "2", "1"):
        KeptOracle(oracle=oracle, folder=tmp_path, identity=identity).prefer(["x"], ["a"], ["b"])
    assert len(oracle.asked) == 3


@pytest.mark.parametrize("damage", ["'oops'", "'\"text\"'", "'1.5'", "'null'"])
def test_a_damaged_answer_is_asked_for_again(tmp_path, damage):
    oracle = Asked()
    kept = KeptOracle(oracle=oracle, folder=tmp_path)
    kept.prefer(["x"], ["a"], ["b"])
    with sqlite3.connect(tmp_path / "answers.sqlite3") as file:
        file.execute(f"UPDATE answers SET answer = {damage}")
    file.close()
    assert kept.prefer(["x"], ["a"], ["b"]).tolist() == pytest.approx([0.55])
    assert len(oracle.asked) == 2


def test_what_is_no_probability_is_never_kept(tmp_path):
    class Wrong(Asked):
        def prefer(self, prompts, first, second):
            return super().prefer(prompts, first, second) + 1

    oracle = Wrong()
    for _ in range(2):
        with pytest.raises(RecipeError, match="asked"):
            KeptOracle(oracle=oracle, folder=tmp_path).prefer(["x"], ["a"], ["b"])
    assert len(oracle.asked) == 2


def test_known_rewards_are_looked_up():
    reward = KnownReward({("x", "a"): 1.0, ("x", "b"): -2.0, (CHAT, "a"): 0.5}, "rm")
    scores = reward.score(["x", CHAT], [["b", "a", "b"], ["a"]])
    assert reward.name == "rm"
    assert scores.reward.tolist() == [-2.0, 1.0, -2.0, 0.5]
    assert scores.prompt.tolist() == [0, 0, 0, 1]
    with pytest.raises(KeyError):
        reward.score(["y"], [["a"]])
