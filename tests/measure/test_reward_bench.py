import numpy as np
import pytest

from trueup.errors import DataError
from trueup.measure.reward_bench import SECTIONS, best_share, reward_bench

NAMES = [name for section in SECTIONS.values() for name in section]


def _bench(make_split, accuracy):
    """For each subset, ten rows of which `accuracy` are right."""
    rows, subset = [], []
    for name, right in accuracy.items():
        rows += [[1.0, 0.0]] * right + [[0.0, 1.0]] * (10 - right)
        subset += [name] * 10
    split = make_split(rows, subset=tuple(subset))
    return split, np.tile([True, False], len(rows))


def test_weights_are_the_published_ones():
    totals = {section: sum(weights.values()) for section, weights in SECTIONS.items()}
    assert totals == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 984 + 6 * 164}
    assert SECTIONS["Reasoning"]["math-prm"] == 984
    assert len(NAMES) == 23


def test_sections_are_weighted_means_and_overall_their_mean(make_split, few):
    rng = np.random.default_rng(0)
    accuracy = {name: int(rng.integers(3, 10)) for name in NAMES}
    ours = reward_bench(*_bench(make_split, accuracy), resampling=few)
    expected = [
        sum(weights[n] * accuracy[n] / 10 for n in weights) / sum(weights.values()) for weights in SECTIONS.values()
    ]
    assert [estimate.value for estimate in ours.sections.values()] == pytest.approx(expected)
    assert ours.overall.value == pytest.approx(np.mean(expected))
    assert {name: estimate.value for name, estimate in ours.subsets.items()} == {
        name: pytest.approx(right / 10) for name, right in accuracy.items()
    }
    assert ours.complete
    assert (ours.sections["Chat"].n, ours.overall.n) == (50, 230)


def test_math_outweighs_its_rows(make_split, few):
    ours = reward_bench(*_bench(make_split, {"math-prm": 10, "hep-python": 0}), resampling=few)
    assert ours.sections["Reasoning"].value == pytest.approx(984 / (984 + 164))
    assert set(ours.sections) == {"Reasoning"}
    assert not ours.complete


def test_a_tie_is_not_won(make_split, few):
    split = make_split([[1, 1], [2, 1]], subset=("donotanswer",) * 2)
    ours = reward_bench(split, np.array([True, False] * 2), resampling=few)
    assert ours.overall.value == 0.5


def test_best_share_splits_a_shared_best_unless_strict(make_split):
    split = make_split([[3, 3, 1, 0], [3, 2, 1, 3], [1, 2, 0, 0]])
    correct = np.array([True, False, False, False] * 3)
    assert best_share(split, correct, strict=False).tolist() == [0.5, 0.5, 0.0]
    assert best_share(split, correct, strict=True).tolist() == [0.0, 0.0, 0.0]


def test_unknown_subset_is_named(make_split, few):
    with pytest.raises(DataError, match=r"`subset`.*'poetry'"):
        reward_bench(make_split([[1, 0]], subset=("poetry",)), np.array([True, False]), resampling=few)
    with pytest.raises(DataError, match="None"):
        reward_bench(make_split([[1, 0]]), np.array([True, False]), resampling=few)
