"""Rows of which more is known than their tokens: what a step learns from, made before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, overload

import torch
from torch import Tensor

from trueup.data.branches import BranchRow, with_branches

TOKEN_FIELDS = ("behaviour", "reference", "previous", "token_reward", "advantage", "returns", "old_value")
BRANCH_FIELDS = ("reward", "finished")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRow(BranchRow):
    """A tokenised row, and what is known of its responses.

    Args:
        tokens_of: Values of each response token, by the names of `PolicyBatch`.
        branches_of: Values of each response, by the same names.
    """

    tokens_of: Mapping[str, Tensor] = field(default_factory=dict)
    branches_of: Mapping[str, Tensor] = field(default_factory=dict)


Known = TypeVar("Known", bound=KnownRow)


@dataclass(frozen=True)
class RowValues(Sequence[Tensor]):
    """One tensor for each row, as views of a single one.

    Args:
        flat: The values of all rows, one row after another.
        starts: Where each row begins, and, last, where all end.
    """

    flat: Tensor
    starts: Sequence[int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, item: int) -> Tensor: ...
    @overload
    def __getitem__(self, item: slice) -> list[Tensor]: ...
    def __getitem__(self, item: int | slice) -> Tensor | list[Tensor]:
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(len(self)))]
        number = range(len(self))[item]
        return self.flat[self.starts[number] : self.starts[number + 1]]


def with_tokens(rows: Sequence[Known], **values: Sequence[Tensor]) -> list[Known]:
    """Rows that know more of their tokens: one tensor a row under each name."""
    return [
        replace(row, tokens_of={**row.tokens_of, **{name: each[i] for name, each in values.items()}})
        for i, row in enumerate(rows)
    ]


def with_known_branches(row: Known, kept: Tensor) -> Known:
    """The row with some of its branches, and what is known of those."""
    token_kept = torch.repeat_interleave(kept, torch.tensor(row.branch_lengths))
    return replace(
        with_branches(row, kept.numpy()),
        tokens_of={name: value[token_kept] for name, value in row.tokens_of.items()},
        branches_of={name: value[kept] for name, value in row.branches_of.items()},
    )


def known_fields(rows: Sequence[BranchRow], part: Sequence[int], *, device: torch.device) -> dict[str, Tensor]:
    """What is known of some rows, as fields of their `PolicyBatch`.

    Args:
        rows: All rows of the step, which know the same names.
        part: Positions of those that are asked for; none of them gives empty tensors.
        device: Where the fields are wanted.
    """
    first = rows[0]
    if not isinstance(first, KnownRow):
        return {}
    known: list[KnownRow] = [rows[i] for i in part]  # type: ignore[misc]
    fields: dict[str, Tensor] = {}
    for names, held in ((TOKEN_FIELDS, "tokens_of"), (BRANCH_FIELDS, "branches_of")):
        for name in names:
            if name in getattr(first, held):
                pieces = [getattr(row, held)[name] for row in known] or [getattr(first, held)[name][:0]]
                fields[name] = torch.cat(pieces).to(device)
    return fields
