import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import DataError, RecipeError
from trueup.measure.alarm_labels import Run, gold_has_fallen
from trueup.measure.signals import Signals


def with_noise(curve, *, prompts=200, noise=1.0, seed=0):
    """Gold by prompt around a curve: noise that prompts keep along the curve, and a tenth as much that they do not."""
    generator = np.random.default_rng(seed)
    own = noise * generator.standard_normal((prompts, 1))
    return np.asarray(curve, float) + own + noise / 10 * generator.standard_normal((prompts, len(curve)))


def test_a_peak_is_seen_and_what_lies_before_it():
    labels = gold_has_fallen(with_noise([0, 0.5, 1.0, 1.2, 1.0, 0.5, 0.0]))
    assert labels.state.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert labels.onset == 4
    assert labels.before.tolist() == [0, 1, 2, 3]
    assert labels.told.tolist() == [1, 2, 3, 4, 5, 6]
    assert labels.fall[4:] == pytest.approx([0.2, 0.7, 1.2], abs=0.05)


def test_rising_gold_never_falls():
    labels = gold_has_fallen(with_noise(np.linspace(0, 2, 9)))
    assert labels.state.tolist() == [0] * 9
    assert labels.onset is None
    assert labels.fall == pytest.approx(np.zeros(9))


def test_gold_that_recovers_is_not_below_its_best_any_more():
    labels = gold_has_fallen(with_noise([0, 1, 0.5, 2]))
    assert labels.state.tolist() == [0, 0, 1, 0]
    assert labels.before.tolist() == [0, 1]


def test_what_prompts_share_does_not_drown_a_fall():
    curve = [0, 1, 0.9]
    assert gold_has_fallen(with_noise(curve, noise=1.0)).state[-1] == 1
    unpaired = np.asarray(curve) + np.random.default_rng(0).standard_normal((200, 3))
    assert gold_has_fallen(unpaired).state[-1] != 1


def test_a_slight_fall_in_noise_cannot_be_told():
    # the fall is about one standard error: 0.14 against 2 * 1 / sqrt(200)
    states = [
        gold_has_fallen(np.array([0, 1, 0.86]) + np.random.default_rng(seed).standard_normal((200, 3))).state[-1]
        for seed in range(60)
    ]
    assert states.count(-1) > 15


def test_halves_that_disagree_cannot_tell():
    # the even prompts fall and the odd ones rise a little: across halves there is no fall, over all of them there is
    gold = np.tile([[0, 1, 0.5], [0, 1, 1.05]], (20, 1))
    labels = gold_has_fallen(gold)
    assert labels.fall[-1] == pytest.approx(-0.025)
    assert labels.state.tolist() == [0, 0, -1]
    assert labels.ambiguous == 1
    assert labels.told.tolist() == [1]


def test_flat_gold_is_called_fallen_about_as_often_as_stated():
    found = [
        gold_has_fallen(np.random.default_rng(seed).standard_normal((100, 8))).state[1:] == 1 for seed in range(400)
    ]
    assert 0.03 < np.mean(found) < 0.085
    # the best of all earlier means, taken on the same prompts, would be called higher far more often
    naive = []
    for seed in range(400):
        gold = np.random.default_rng(seed).standard_normal((100, 8))
        last = gold[:, [gold[:, :-1].mean(axis=0).argmax()]][:, 0] - gold[:, -1]
        naive.append(last.mean() > 1.645 * last.std(ddof=1) / 10)
    assert np.mean(naive) > 0.15


def test_a_fall_without_noise_is_exact():
    labels = gold_has_fallen(np.tile([0.0, 2.0, 1.5], (4, 1)))
    assert labels.state.tolist() == [0, 0, 1]
    assert labels.fall.tolist() == [0.0, 0.0, 0.5]


@given(seed=st.integers(0, 10_000), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_the_scale_of_gold_does_not_matter(seed, shift, scale):
    gold = np.random.default_rng(seed).standard_normal((12, 6))
    assert gold_has_fallen(scale * gold + shift).state.tolist() == gold_has_fallen(gold).state.tolist()


def test_a_stricter_level_tells_fewer_falls():
    gold = with_noise([0, 1, 0.98, 0.96, 0.9], prompts=60)
    counts = [int((gold_has_fallen(gold, level=level).state == 1).sum()) for level in (0.5, 0.95, 0.9999)]
    assert counts == sorted(counts, reverse=True)
    with pytest.raises(RecipeError, match="level"):
        gold_has_fallen(gold, level=1.0)


def test_too_few_prompts_cannot_tell():
    with pytest.raises(DataError, match="3 prompts"):
        gold_has_fallen(np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("gold", "kl", "words"),
    [
        (np.zeros((4, 3)), [0.0, 0.2], "gold at 3 sizes"),
        (np.array([[0.0, np.nan]] * 4), [0.0, 0.2], "not finite at 4 places"),
        (np.zeros((4, 2)), [0.2, 0.2], "KL"),
        (np.zeros((4, 2)), [0.0, np.nan], "KL"),
    ],
)
def test_a_run_says_what_is_wrong_with_it(gold, kl, words):
    with pytest.raises(DataError, match=f"blue.*{words}"):
        Run(name="blue", group=0, signals=Signals(np.array([1, 2]), {"kl": np.array(kl)}), gold_by_prompt=gold)
