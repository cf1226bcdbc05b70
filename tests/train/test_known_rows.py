"""What rows know beside their tokens reaches the batch, whole or with some of the branches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_policies import reply_rows
from trueup.data.branches import BranchRow
from trueup.train.known_rows import KnownRow, RowValues, known_fields, with_known_branches, with_tokens

CPU = torch.device("cpu")


def known(count: int = 4) -> list[KnownRow]:
    """Rows whose tokens and branches have numbers of their own, counted over all rows."""
    rows, tokens, branches = [], 0, 0
    for row in reply_rows(count, seed=3):
        size, kind = sum(row.branch_lengths), len(row.branch_lengths)
        fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
        rows.append(
            KnownRow(
                **fields,
                tokens_of={"reference": torch.arange(tokens, tokens + size).float()},
                branches_of={"reward": torch.arange(branches, branches + kind).double()},
            )
        )
        tokens, branches = tokens + size, branches + kind
    return rows


def test_fields_are_in_the_order_of_the_part():
    rows = known()
    found = known_fields(rows, (2, 0), device=CPU)
    assert set(found) == {"reference", "reward"}
    expected = torch.cat([rows[2].tokens_of["reference"], rows[0].tokens_of["reference"]])
    assert torch.equal(found["reference"], expected)
    assert found["reward"].dtype == torch.float64


def test_a_part_without_rows_has_empty_fields_and_plain_rows_have_none():
    found = known_fields(known(), (), device=CPU)
    assert {name: value.shape for name, value in found.items()} == {"reference": (0,), "reward": (0,)}
    assert known_fields(reply_rows(2), (0, 1), device=CPU) == {}


def test_a_name_that_no_batch_has_is_not_handed_on():
    rows = [replace(row, tokens_of={**row.tokens_of, "colour": row.tokens_of["reference"]}) for row in known()]
    assert set(known_fields(rows, (0,), device=CPU)) == {"reference", "reward"}


def test_more_can_be_learned_of_rows():
    rows = known()
    found = with_tokens(rows, previous=[torch.full_like(row.tokens_of["reference"], 7) for row in rows])
    assert all(set(row.tokens_of) == {"reference", "previous"} for row in found)
    assert all(set(row.tokens_of) == {"reference"} for row in rows)


def test_what_is_known_goes_with_its_branch():
    row = next(row for row in known(8) if len(row.branch_lengths) >= 3)
    row = replace(row, pairs=np.asarray([[0, 2], [2, 1]]))
    kept = torch.ones(len(row.branch_lengths), dtype=torch.bool)
    kept[1] = False
    found = with_known_branches(row, kept)
    before, after = row.sequences(), found.sequences()
    assert [one.tolist() for one in after] == [one.tolist() for i, one in enumerate(before) if i != 1]
    pieces = torch.split(row.tokens_of["reference"], list(row.branch_lengths))
    assert torch.equal(found.tokens_of["reference"], torch.cat([p for i, p in enumerate(pieces) if i != 1]))
    assert found.branches_of["reward"].tolist() == [
        x for i, x in enumerate(row.branches_of["reward"].tolist()) if i != 1
    ]
    assert found.pairs.tolist() == [[0, 1]]
    assert isinstance(found, BranchRow)


def test_values_of_rows_are_views_of_one_tensor():
    flat = torch.arange(6.0)
    values = RowValues(flat, [0, 2, 2, 6])
    assert [one.tolist() for one in values] == [[0, 1], [], [2, 3, 4, 5]]
    assert values[-1].data_ptr() == flat[2:].data_ptr()
    assert [one.tolist() for one in values[1:]] == [[], [2, 3, 4, 5]]
    with pytest.raises(IndexError):
        values[3]
