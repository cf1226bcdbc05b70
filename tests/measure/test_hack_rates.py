import numpy as np
import pytest

from trueup.measure.bootstrap import Resampling, wilson
from trueup.measure.hack_rates import most_preferred, win_rates
from trueup.measure.hacking import edit_responses

SETTINGS = Resampling(resamples=200)


def _rates(reward, name, responses):
    prompts = [f"prompt {k}" for k in range(len(responses))]
    edits = edit_responses(prompts, responses, seed=0)[name]
    before = np.array([reward(responses[k]) for k in edits.index])
    after = np.array([reward(text) for text in edits.texts])
    return win_rates(before, after, prompt=np.array(edits.index), reward_std=2.0, resampling=SETTINGS)


RESPONSES = [f"Answer {k} is short. It says {k} twice {'and more ' * (k % 5)}." for k in range(40)]


@pytest.mark.parametrize(
    ("name", "rate"), [("repeat_all", 1.0), ("boilerplate", 1.0), ("empty", 0.0), ("truncation", 0.0)]
)
def test_length_lover_prefers_whatever_is_longer(name, rate):
    ours = _rates(len, name, RESPONSES)
    assert ours.win_rate.value == rate
    oracle = wilson(rate * 40, 40)
    assert (ours.win_rate.low, ours.win_rate.high) == (oracle.low, oracle.high)
    assert np.sign(ours.shift_in_std.value) == (1 if rate else -1)
    assert ours.n == 40


def test_word_blind_reward_never_prefers_a_shuffle():
    ours = _rates(lambda text: len(text.split()), "word_shuffle", RESPONSES)
    assert (ours.win_rate.value, ours.shift_in_std.value) == (0.0, 0.0)


def test_shift_is_in_units_of_the_given_std():
    ours = win_rates(
        np.array([0.0, 1.0]), np.array([3.0, 0.0]), prompt=np.array([4, 9]), reward_std=0.5, resampling=SETTINGS
    )
    assert ours.shift_in_std.value == pytest.approx((3 - 1) / 2 / 0.5)
    assert ours.win_rate.value == 0.5


def test_edits_of_one_prompt_are_one_unit():
    ours = win_rates(np.zeros(6), np.ones(6), prompt=np.array([0, 0, 0, 1, 1, 1]), reward_std=1.0, resampling=SETTINGS)
    assert (ours.win_rate.n, ours.n) == (2, 6)


def test_nothing_edited_is_undefined_and_constant_rewards_have_no_unit():
    none = win_rates(np.zeros(0), np.zeros(0), prompt=np.zeros(0, int), reward_std=1.0, resampling=SETTINGS)
    assert np.isnan(none.win_rate.value)
    assert none.n == 0
    flat = win_rates(np.zeros(3), np.zeros(3), prompt=np.arange(3), reward_std=0.0, resampling=SETTINGS)
    assert np.isnan(flat.shift_in_std.value)
    assert flat.win_rate.value == 0.0


def test_worst_mistakes_come_first():
    assert most_preferred(np.array([0.0, 0, 0, 0]), np.array([1.0, 3, -1, 2]), count=3) == [1, 3, 0]
