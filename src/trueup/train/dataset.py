"""Tokenised rows as a map-style data set of branch rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from trueup.data.branches import BranchRow, is_paired, with_branches
from trueup.data.rows import Pair, Row, prompt_text
from trueup.data.tokens import TokenTable
from trueup.train.known_rows import KnownRow


@dataclass(frozen=True)
class Preferences:
    """What is learned from one row: pairs, a ranking, or both."""

    pairs: tuple[Pair, ...]
    rank: tuple[int, ...]


class BranchDataset(Dataset[BranchRow]):
    """Rows with their token ids and preferences, and whatever else is known of them.

    Args:
        rows: The rows, in the order of the table.
        table: Their token ids.
        preferences: What is learned from each.
        keep: Numbers of the rows to use, in order; all by default.
        paired_only: Leave out responses that are in no pair, so that they are not computed.
        tokens_of: Values of response tokens by the names of `PolicyBatch`: of each, one tensor for each used row.
        branches_of: Values of responses, in the same way.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        table: TokenTable,
        preferences: Sequence[Preferences],
        *,
        keep: Sequence[int] | None = None,
        paired_only: bool = False,
        tokens_of: Mapping[str, Sequence[Tensor]] | None = None,
        branches_of: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> None:
        self.rows, self.table, self.preferences = rows, table, preferences
        self.keep = tuple(range(len(rows))) if keep is None else tuple(keep)
        self.paired_only = paired_only
        self.tokens_of, self.branches_of = dict(tokens_of or {}), dict(branches_of or {})

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, item: int) -> KnownRow:
        row = self._whole(item)
        if self.paired_only and not (used := is_paired(row)).all():
            row = with_branches(row, used)
        return replace(
            row,
            tokens_of={name: values[item] for name, values in self.tokens_of.items()},
            branches_of={name: values[item] for name, values in self.branches_of.items()},
        )

    def _whole(self, item: int) -> KnownRow:
        number = self.keep[item]
        wanted = self.preferences[number]
        return KnownRow(
            tokens=np.asarray(self.table.ids(number)),
            prompt_length=int(self.table.prompt_length[number]),
            branch_lengths=self.table.lengths(number),
            pairs=np.asarray(wanted.pairs, np.int64).reshape(-1, 2),
            rank=np.asarray(wanted.rank, np.int64),
            margin=self.rows[number].margin or 0.0,
            index=number,
        )

    def with_known(
        self,
        *,
        tokens_of: Mapping[str, Sequence[Tensor]] | None = None,
        branches_of: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> "BranchDataset":
        """The same rows, of which more is known: under each name one tensor for each used row, in order."""
        return BranchDataset(
            self.rows,
            self.table,
            self.preferences,
            keep=self.keep,
            paired_only=self.paired_only,
            tokens_of=self.tokens_of | dict(tokens_of or {}),
            branches_of=self.branches_of | dict(branches_of or {}),
        )

    def text(self, item: int) -> Row:
        """A used row as text, with those of its responses that are computed."""
        row = self.rows[self.keep[item]]
        if not self.paired_only:
            return row
        used = is_paired(self._whole(item))
        return replace(row, responses=tuple(one for one, wanted in zip(row.responses, used, strict=True) if wanted))

    @property
    def paired(self) -> bool:
        """Whether any row has a pair."""
        return any(self.preferences[i].pairs for i in self.keep)

    @property
    def ranked(self) -> bool:
        """Whether any row has a ranking of two or more responses."""
        return any(sum(place >= 0 for place in self.preferences[i].rank) >= 2 for i in self.keep)

    def describe(self, index: int) -> Mapping[str, Any]:
        """A row in words, for files that show offending rows."""
        row = self.rows[index]
        texts = [response.text for response in row.responses]
        return {"row": str(row.origin), "id": row.id, "prompt": prompt_text(row.prompt), "responses": texts}


def as_step(rows: Sequence[BranchRow]) -> dict[str, Any]:
    """Collate: the rows stay as they are, since the training step cuts them itself."""
    return {"rows": list(rows)}
