"""Token ids of a row: one prompt, computed once, and its branches.

Each response is tokenised with its whole prompt, exactly as a peer would; what all of a row's sequences have in common
at their start is the shared prompt. So no tokenizer's merging at the seam can make the shared computation differ from
the ordinary one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRow:
    """A tokenised row.

    Args:
        tokens: Ids of the shared prompt, then of each branch, one after another.
        prompt_length: Tokens of the shared prompt (may be 0).
        branch_lengths: Tokens of each branch, each at least 1.
        pairs: (chosen, rejected) branch numbers.
        rank: Place of each branch in the row's ranking, -1 where there is none.
        margin: Margin the data state, in reward units.
        index: Row number in the data set it came from.
    """

    tokens: Int[Array, " s"]
    prompt_length: int
    branch_lengths: tuple[int, ...]
    pairs: Int[Array, "pairs 2"]
    rank: Int[Array, " branches"]
    margin: float = 0.0
    index: int = 0

    @property
    def size(self) -> int:
        """Tokens computed when the prompt is shared."""
        return len(self.tokens)

    @property
    def longest(self) -> int:
        """Tokens of the longest single sequence."""
        return self.prompt_length + max(self.branch_lengths)

    def sequences(self) -> list[Int[Array, " s"]]:
        """Token ids of each branch with its prompt, as a peer would compute them."""
        prompt, start = self.tokens[: self.prompt_length], self.prompt_length
        result = []
        for length in self.branch_lengths:
            result.append(np.concatenate([prompt, self.tokens[start : start + length]]))
            start += length
        return result


AnyRow = TypeVar("AnyRow", bound=BranchRow)


def with_branches(row: AnyRow, kept: Bool[Array, " branches"]) -> AnyRow:
    """The row with some of its branches; pairs go with any branch of theirs that is left out."""
    lengths = np.asarray(row.branch_lengths)
    inside = np.concatenate([np.ones(row.prompt_length, bool), np.repeat(kept, lengths)])
    whole = kept[row.pairs].all(1)
    return replace(
        row,
        tokens=row.tokens[inside],
        branch_lengths=tuple(lengths[kept].tolist()),
        pairs=(np.cumsum(kept) - 1)[row.pairs[whole]],
        rank=row.rank[kept],
    )


def is_paired(row: BranchRow) -> Bool[Array, " branches"]:
    """Whether each branch is in a pair."""
    return np.isin(np.arange(len(row.branch_lengths)), row.pairs)


def joint_pairs(rows: Sequence[BranchRow]) -> Int[Array, "pairs 2"]:
    """Pairs of several rows, as numbers of branches within all of them together."""
    counts = np.asarray([len(row.branch_lengths) for row in rows], np.int64)
    moved = [row.pairs + start for row, start in zip(rows, np.cumsum(counts) - counts, strict=True)]
    return np.concatenate([np.zeros((0, 2), np.int64), *moved])


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all sequences start with, leaving each at least one of its own."""
    limit = max(min(len(sequence) for sequence in sequences) - 1, 0)
    first = np.asarray(sequences[0][:limit])
    for sequence in sequences[1:]:
        differs = first[:limit] != np.asarray(sequence[:limit])
        limit = int(differs.argmax()) if differs.any() else limit
    return limit


def join(
    sequences: Sequence[Sequence[int]],
    *,
    pairs: Sequence[tuple[int, int]] = (),
    rank: Sequence[int] | None = None,
    margin: float = 0.0,
    index: int = 0,
) -> BranchRow:
    """Fold the tokenised responses of one row into a shared prompt and its branches."""
    shared = shared_prefix(sequences)
    parts = [sequences[0][:shared], *(sequence[shared:] for sequence in sequences)]
    tokens = np.concatenate([np.asarray(part, np.int32) for part in parts])
    return BranchRow(
        tokens=tokens,
        prompt_length=shared,
        branch_lengths=tuple(len(sequence) - shared for sequence in sequences),
        pairs=np.asarray(pairs, np.int64).reshape(-1, 2),
        rank=np.asarray(rank if rank is not None else [-1] * len(sequences), np.int64),
        margin=margin,
        index=index,
    )
