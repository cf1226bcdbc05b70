"""Kept scores: asked once, never of another reward."""

import numpy as np
import pytest

from trueup.errors import RecipeError
from trueup.rewards.flat import flatten, scores_of
from trueup.rewards.function import FunctionReward
from trueup.rewards.kept_scores import keep_scores, load_kept


def opened(folder, asked, *, identity="1", at_a_time=1024):
    def score(prompts, completions):
        asked.extend(completions)
        return [len(text) + 0.25 for text in completions]

    place = keep_scores(folder, place="some:reward", identity=identity)
    kept = load_kept(place, name="", load=lambda _: FunctionReward(score, "f"))
    return type(kept)(**{**vars(kept), "at_a_time": at_a_time})


@pytest.mark.parametrize("at_a_time", [1, 1024])
def test_each_response_is_scored_once(tmp_path, at_a_time):
    asked: list[str] = []
    first = opened(tmp_path / "s", asked, at_a_time=at_a_time).score(["p", "q"], [["a", "bb", "a"], ["a"]])
    assert first.reward.tolist() == [1.25, 2.25, 1.25, 1.25]
    assert first.prompt.tolist() == [0, 0, 0, 1]
    assert asked == ["a", "bb", "a"]
    again = opened(tmp_path / "s", asked).score(["q", "p"], [["ccc", "a"], ["bb"]])
    assert again.reward.tolist() == [3.25, 1.25, 2.25]
    assert asked == ["a", "bb", "a", "ccc"]


def test_a_reward_that_is_not_needed_is_not_loaded(tmp_path):
    opened(tmp_path / "s", []).score(["p"], [["a"]])
    kept = load_kept(f"kept:{tmp_path / 's'}", name="x", load=pytest.fail)
    assert kept.score(["p"], [["a"]]).reward.tolist() == [1.25]
    assert kept.name == "x"


def test_a_score_that_is_not_finite_is_not_kept(tmp_path):
    asked: list[str] = []

    class Broken:
        name = "broken"

        def score(self, prompts, responses):
            flat = flatten(prompts, responses)
            asked.extend(one.response for one in flat)
            return scores_of(np.asarray([np.nan if one.response == "bad" else 1.0 for one in flat]), flat)

    place = keep_scores(tmp_path / "s", place="some:reward", identity="1")
    for _ in range(2):
        found = load_kept(place, name="", load=lambda _: Broken()).score(["p"], [["bad", "good"]])
        np.testing.assert_array_equal(found.reward, [np.nan, 1.0])
    assert asked == ["bad", "good", "bad"]


def test_another_reward_is_refused(tmp_path):
    keep_scores(tmp_path / "s", place="some:reward", identity="1")
    for place, identity in (("some:reward", "2"), ("other:reward", "1")):
        with pytest.raises(RecipeError, match="before it was changed"):
            keep_scores(tmp_path / "s", place=place, identity=identity)
    with pytest.raises(RecipeError, match="does not say which reward"):
        load_kept(f"kept:{tmp_path / 'nowhere'}", name="", load=pytest.fail)
