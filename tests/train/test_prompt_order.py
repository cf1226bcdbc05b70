"""Which prompts are asked when: by enumeration of whole runs."""

from collections import Counter

import pytest

from trueup.errors import RecipeError
from trueup.train.prompt_order import Rhythm, minibatch, prompts_of


def test_each_pass_asks_every_prompt_once_and_none_twice_in_a_rollout():
    rhythm = Rhythm(prompts=4)
    rollouts = [prompts_of(r, total=12, rhythm=rhythm, seed=3) for r in range(6)]
    for start in (0, 3):
        asked = Counter(number for rollout in rollouts[start : start + 3] for number in rollout)
        assert asked == dict.fromkeys(range(12), 1)
    assert rollouts[:3] != rollouts[3:]


def test_a_rest_that_fills_no_rollout_waits_for_another_pass():
    rhythm = Rhythm(prompts=4)
    for r in range(20):
        assert len(set(prompts_of(r, total=10, rhythm=rhythm, seed=0))) == 4


def test_too_few_prompts():
    with pytest.raises(RecipeError, match="3 different prompts are fewer than the 4"):
        prompts_of(0, total=3, rhythm=Rhythm(prompts=4), seed=0)


def test_minibatches_share_a_pass_and_passes_differ():
    rhythm = Rhythm(prompts=8, passes=2, minibatches=2)
    assert rhythm.steps == 4
    parts = [minibatch(range(8), step=step, rhythm=rhythm, seed=5) for step in range(4, 8)]
    assert sorted(parts[0] + parts[1]) == sorted(parts[2] + parts[3]) == list(range(8))
    assert parts[0] != parts[2]
    assert parts == [minibatch(range(8), step=step, rhythm=rhythm, seed=5) for step in range(4, 8)]


def test_uneven_minibatches_are_refused():
    with pytest.raises(RecipeError, match="cannot be shared evenly"):
        Rhythm(prompts=6, minibatches=4)
