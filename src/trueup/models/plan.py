"""How one optimiser step is cut into micro-batches under a token budget."""

from collections.abc import Sequence

from trueup.data.branches import BranchRow
from trueup.models.sharing import Sharing

Part = tuple[int, ...]
"""Positions of a micro-batch's rows within the step."""


def slots(rows: Sequence[BranchRow], sharing: Sharing) -> int:
    """Token slots that a micro-batch of these rows computes, padding included."""
    if sharing in ("trees", "flex"):
        return sum(row.size for row in rows)
    if sharing == "mask":
        return len(rows) * max(row.size for row in rows)
    return sum(len(row.branch_lengths) for row in rows) * max(row.longest for row in rows)


def cut(rows: Sequence[BranchRow], *, budget: int, sharing: Sharing, at_least: int = 1) -> list[Part]:
    """Cut a step's rows, sorted by length, into parts of at most `budget` token slots each.

    A row that exceeds the budget alone gets a part of its own. Every row is in exactly one part.

    Args:
        rows: The step's rows, in the order of the loader.
        budget: Token slots a part may compute.
        sharing: How the model computes branches, which decides what padding costs.
        at_least: Number of parts to make at least (devices that shard weights must all make the same number).
    """

    def key(position: int) -> tuple[int, int]:
        row = rows[position]
        return (row.longest if sharing == "separate" else row.size), position

    parts: list[list[int]] = []
    for position in sorted(range(len(rows)), key=key):
        if parts and slots([rows[i] for i in (*parts[-1], position)], sharing) <= budget:
            parts[-1].append(position)
        else:
            parts.append([position])
    while len(parts) < min(at_least, len(rows)):
        largest = max(range(len(parts)), key=lambda i: len(parts[i]))
        half = len(parts[largest]) // 2
        parts[largest : largest + 1] = [parts[largest][:half], parts[largest][half:]]
    return [tuple(part) for part in parts]
