import numpy as np
import pytest

from trueup.divergences.pool_scores import checked_n, checked_scores, tied_groups
from trueup.errors import DataError, RecipeError


def test_whole_numbers_become_floating_point_and_floats_keep_their_type():
    assert checked_scores([[1, 2]], "proxy").dtype == np.float64
    assert checked_scores(np.ones((1, 2), np.float32), "proxy").dtype == np.float32


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[1.0, 2.0], [3.0, np.nan]], ["`proxy`", "1 of 4", "nan", "prompt 1, sample 1"]),
        ([[1.0, -np.inf], [np.inf, 0.0]], ["2 of 4", "-inf", "prompt 0, sample 1"]),
        ([1.0, 2.0], ["shape (2,)", "prompts by samples"]),
        (np.zeros((0, 3)), ["no prompts"]),
        (np.zeros((3, 0)), ["no samples"]),
        ([[1.0], [1.0, 2.0]], ["different numbers of samples"]),
        ([["a", "b"]], ["expected numbers"]),
        ([[None, 1.0]], ["expected numbers"]),
    ],
)
def test_bad_scores_say_what_is_wrong(scores, words):
    with pytest.raises(DataError) as caught:
        checked_scores(scores, "proxy")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_shapes_that_differ_are_named():
    with pytest.raises(DataError, match=r"`gold`: 2 prompts by 3 samples; expected 2 by 4"):
        checked_scores(np.zeros((2, 3)), "gold", shape=(2, 4))


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "at least 1"),
        ([1, -2], "at least 1"),
        (9, r"best-of-9 needs .* has 8.* up to 8"),
        (2.5, "whole"),
        ([], "one whole number"),
        ([[1]], "one whole number"),
        (np.nan, "whole"),
    ],
)
def test_bad_sizes_say_what_is_wrong(n, words):
    with pytest.raises(RecipeError, match=words):
        checked_n(n, samples=8)


def test_sizes_may_be_one_number_a_list_or_whole_floats():
    assert checked_n(3, samples=8).tolist() == [3]
    assert checked_n([1, 8], samples=8).tolist() == [1, 8]
    assert checked_n(np.array([2.0]), samples=8).tolist() == [2]


def test_groups_do_not_reach_over_prompts():
    starts, ends = tied_groups(np.array([[1.0, 2.0, 2.0, 3.0], [3.0, 3.0, 3.0, 4.0], [4.0, 5.0, 6.0, 6.0]]))
    assert starts.tolist() == [1, 4, 10]
    assert ends.tolist() == [3, 7, 12]
    assert not len(tied_groups(np.array([[1.0], [1.0]]))[0])
