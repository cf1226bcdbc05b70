"""Folding a row's sequences into a shared prompt and branches, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.branches import is_paired, join, joint_pairs, shared_prefix, with_branches

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=5)


@given(SEQUENCES)
def test_joining_loses_nothing(sequences):
    row = join(sequences)
    assert [sequence.tolist() for sequence in row.sequences()] == sequences
    assert min(row.branch_lengths) >= 1
    assert row.size == row.prompt_length + sum(row.branch_lengths) <= sum(map(len, sequences))
    assert row.longest == max(map(len, sequences))


@given(SEQUENCES)
def test_the_shared_prompt_is_the_longest_there_can_be(sequences):
    """Against a loop over all lengths."""
    limit = min(map(len, sequences)) - 1
    longest = max(n for n in range(limit + 1) if len({tuple(s[:n]) for s in sequences}) == 1)
    assert shared_prefix(sequences) == longest


@pytest.mark.parametrize(
    ("sequences", "prompt", "branches"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2, (1, 1)),
        ([[1, 2, 3], [1, 2, 3]], 2, (1, 1)),
        ([[1, 2], [1, 2, 3]], 1, (1, 2)),
        ([[1, 2, 3]], 2, (1,)),
        ([[1], [2]], 0, (1, 1)),
        ([[1], [1]], 0, (1, 1)),
        ([[1, 2], [3, 2]], 0, (2, 2)),
    ],
)
def test_worked_cases(sequences, prompt, branches):
    row = join(sequences, pairs=[(0, len(sequences) - 1)], margin=0.5, index=7)
    assert (row.prompt_length, row.branch_lengths) == (prompt, branches)
    assert row.pairs.tolist() == [[0, len(sequences) - 1]]
    assert row.rank.tolist() == [-1] * len(sequences)
    assert (row.margin, row.index) == (0.5, 7)


def test_twelve_responses_hold_their_prompt_once():
    prompt = list(range(100))
    row = join([[*prompt, 200 + k] for k in range(12)])
    assert row.size == 112
    assert np.array_equal(row.tokens[:100], prompt)


@given(SEQUENCES, st.data())
def test_some_branches_of_a_row(sequences, data):
    """Against the row that is made of those sequences alone, but for the prompt, which stays as long as it was."""
    count = len(sequences)
    order = data.draw(st.permutations(range(count)))
    pairs = [(a, b) for a in range(count) for b in range(count) if order[a] < order[b]]
    kept = np.asarray(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    if not kept.any():
        kept[0] = True
    whole = join(sequences, pairs=pairs, rank=order, margin=2.0, index=5)
    found = with_branches(whole, kept)
    numbers = [i for i in range(count) if kept[i]]
    assert [sequence.tolist() for sequence in found.sequences()] == [sequences[i] for i in numbers]
    assert [(numbers[a], numbers[b]) for a, b in found.pairs] == [p for p in pairs if kept[list(p)].all()]
    assert found.rank.tolist() == [order[i] for i in numbers]
    assert (found.prompt_length, found.margin, found.index) == (whole.prompt_length, 2.0, 5)
    assert is_paired(found).tolist() == [len(numbers) > 1] * len(numbers)


def test_branches_that_are_in_no_pair():
    row = join([[1, 2], [1, 3], [1, 4], [1, 5]], pairs=[(3, 1)])
    assert is_paired(row).tolist() == [False, True, False, True]
    assert not is_paired(join([[1, 2], [1, 3]])).any()


def test_pairs_of_several_rows_are_numbered_through():
    rows = [join([[1, 2], [1, 3], [1, 4]], pairs=[(2, 0)]), join([[7]]), join([[1, 2], [1, 3]], pairs=[(0, 1)])]
    assert joint_pairs(rows).tolist() == [[2, 0], [4, 5]]
    assert joint_pairs(rows[::-1]).tolist() == [[0, 1], [5, 3]]
    assert joint_pairs([]).shape == (0, 2)
