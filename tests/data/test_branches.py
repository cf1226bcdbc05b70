"""Folding a row's sequences into a shared prompt and branches, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.branches import join, shared_prefix

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
