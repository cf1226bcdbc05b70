import numpy as np
import pytest

from trueup.errors import DataError
from trueup.measure.reward_bench_2 import SUBSETS, reward_bench_2, ties_parts


def _ties(make_split, rows):
    """Rows of (id, rewards of right answers, rewards of wrong ones)."""
    split = make_split(
        [right + wrong for _, right, wrong in rows], subset=("Ties",) * len(rows), ids=tuple(row[0] for row in rows)
    )
    correct = np.concatenate([[True] * len(right) + [False] * len(wrong) for _, right, wrong in rows])
    return split, correct


def test_hand_worked_ties_score(make_split, few):
    split, correct = _ties(
        make_split,
        [
            ("tied:1", [3.0, 2.5], [1.0, 0.0]),  # gap 1.5, spread 0.5: all parts won
            ("ref:1", [2.0], [1.0]),  # gap 1
            ("tied:2", [5.0, 2.0], [1.0]),  # gap 1, spread 3: right, but tells the right ones apart
            ("ref:2", [4.0], [0.0]),  # gap 4
            ("tied:3", [2.0, 1.0], [1.5]),  # gap -0.5: wrong
            ("ref:3", [0.0], [1.0]),  # gap -1: wrong
        ],
    )
    ours = reward_bench_2(split, correct, resampling=few)
    margin = np.mean(np.tanh([1 / 0.5 - 1, 1 / 3 - 1, -1 / 1 - 1]))
    parts = {"tied_accuracy": 2 / 3, "reference_accuracy": 2 / 3, "correctness_preferred": 1 / 3}
    parts |= {"correctness_preferred_hard": 1 / 3, "margin": margin}
    assert {name: estimate.value for name, estimate in ours.ties.items()} == pytest.approx(parts)
    score = 0.3 * 2 / 3 + 0.3 * 2 / 3 + 0.2 / 3 + 0.2 / 3 + 0.01 * margin
    assert ours.subsets["Ties"].value == pytest.approx(score)
    assert ours.overall.value == pytest.approx(score)
    assert ours.subsets["Ties"].n == 3


def test_example_of_the_docstring(make_split, few):
    split, correct = _ties(make_split, [("tied:9", [3.0, 2.5], [1.0]), ("ref:9", [1.0], [0.0])])
    ours = reward_bench_2(split, correct, resampling=few)
    assert ours.subsets["Ties"].value == pytest.approx(1.0076, abs=5e-5)


def test_no_spread_gives_the_limits_of_the_margin_term(make_split):
    split, correct = _ties(
        make_split,
        [
            ("tied:a", [2.0, 2.0], [1.0]),
            ("ref:a", [2.0], [1.0]),
            ("tied:b", [1.0, 1.0], [1.0]),
            ("ref:b", [2.0], [1.0]),
            ("tied:c", [0.0, 0.0], [1.0]),
            ("ref:c", [2.0], [1.0]),
        ],
    )
    assert ties_parts(split, correct, among=np.ones(6, bool)).values[:, 4].tolist() == [1.0, 0.0, -1.0]


def test_reference_gap_binds_only_the_hard_part(make_split):
    split, correct = _ties(make_split, [("tied:1", [3.0, 2.5], [1.0]), ("ref:1", [1.2], [1.0])])
    values = ties_parts(split, correct, among=np.ones(2, bool)).values[0]
    assert values[:4].tolist() == [1, 1, 1, 0]


def test_a_prompt_without_its_mate_counts_in_accuracy_alone(make_split, few):
    rows = [("tied:1", [3.0, 2.5], [1.0]), ("ref:1", [1.0], [0.0]), ("ref:2", [0.0], [1.0])]
    split, correct = _ties(make_split, rows)
    ours = reward_bench_2(split, correct, resampling=few).ties
    assert (ours["reference_accuracy"].value, ours["reference_accuracy"].n) == (0.5, 2)
    assert (ours["correctness_preferred"].value, ours["correctness_preferred"].n) == (1.0, 1)


def test_order_of_rows_does_not_matter(make_split, few):
    rng = np.random.default_rng(0)
    rows = [
        (f"{kind}:{k}", rng.normal(1, 1, 3 if kind == "tied" else 1).tolist(), rng.normal(0, 1, 4).tolist())
        for k in range(8)
        for kind in ("tied", "ref")
    ]
    one, other = (reward_bench_2(*_ties(make_split, r), resampling=few) for r in (rows, rows[::-1]))
    assert one.overall.value == pytest.approx(other.overall.value)


def test_best_of_four_and_overall_are_means_over_subsets(make_split, few):
    names = [name for name in SUBSETS if name != "Ties"]
    rows, subset = [], []
    for k, name in enumerate(names):
        rows += [[1.0, 0, 0, 0]] * (k + 1) + [[0.0, 1, 0, 0]] * (5 - k)
        subset += [name] * 6
    rows += [[1.0, 1.0, 0, 0]]
    subset += ["Math"]
    ids = [str(k) for k in range(len(rows))]
    correct = [True, False, False, False] * len(rows)
    split = make_split(
        [*rows, [3.0, 2.5, 1.0], [1.0, 0.0]],
        subset=(*subset, "Ties", "Ties"),
        ids=(*ids, "tied:1", "ref:1"),
    )
    ours = reward_bench_2(split, np.array([*correct, True, True, False, True, False]), resampling=few)
    expected = [1 / 6, 2 / 6, 3.5 / 7, 4 / 6, 5 / 6, 1 + 0.01 * np.tanh(1)]
    assert list(ours.subsets) == list(SUBSETS)
    assert [estimate.value for estimate in ours.subsets.values()] == pytest.approx(expected)
    assert ours.overall.value == pytest.approx(np.mean(expected))
    assert ours.complete


@pytest.mark.parametrize("name", ["7", "easy:7", "tied:", ""])
def test_ties_ids_must_say_what_they_are(make_split, few, name):
    split, correct = _ties(make_split, [(name, [1.0], [0.0])])
    with pytest.raises(DataError, match="ref:NUMBER or tied:NUMBER"):
        reward_bench_2(split, correct, resampling=few)


def test_ties_without_any_complete_question_are_refused(make_split, few):
    split, correct = _ties(make_split, [("tied:1", [1.0, 2.0], [0.0]), ("ref:2", [1.0], [0.0])])
    with pytest.raises(DataError, match="no Ties question has both"):
        reward_bench_2(split, correct, resampling=few)
