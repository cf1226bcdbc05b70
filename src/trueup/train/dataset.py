"""Tokenised rows as a map-style data set of branch rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from trueup.data.branches import BranchRow
from trueup.data.rows import Pair, Row, prompt_text
from trueup.data.tokens import TokenTable


@dataclass(frozen=True)
class Preferences:
    """What is learned from one row: pairs, a ranking, or both."""

    pairs: tuple[Pair, ...]
    rank: tuple[int, ...]


class BranchDataset(Dataset[BranchRow]):
    """Rows with their token ids and preferences.

    Args:
        rows: The rows, in the order of the table.
        table: Their token ids.
        preferences: What is learned from each.
        keep: Numbers of the rows to use, in order; all by default.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        table: TokenTable,
        preferences: Sequence[Preferences],
        *,
        keep: Sequence[int] | None = None,
    ) -> None:
        self.rows, self.table, self.preferences = rows, table, preferences
        self.keep = tuple(range(len(rows))) if keep is None else tuple(keep)

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, item: int) -> BranchRow:
        number = self.keep[item]
        wanted = self.preferences[number]
        return BranchRow(
            tokens=np.asarray(self.table.ids(number)),
            prompt_length=int(self.table.prompt_length[number]),
            branch_lengths=self.table.lengths(number),
            pairs=np.asarray(wanted.pairs, np.int64).reshape(-1, 2),
            rank=np.asarray(wanted.rank, np.int64),
            margin=self.rows[number].margin or 0.0,
            index=number,
        )

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
