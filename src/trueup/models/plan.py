"""How one optimiser step is cut into micro-batches under a token budget, and shared out over devices."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from trueup.data.branches import BranchRow
from trueup.models.sharing import Sharing

Part = tuple[int, ...]
"""Positions of a micro-batch's rows within the step; empty for a device that only keeps the others company."""

FLEX_BLOCK = 128
"""FlexAttention works in blocks of this many slots, so packed rows are rounded up to it."""

# What a micro-batch costs beyond its slots (launching its kernels), in slots: below this, padding is the cheaper waste.
_PART_COST = 128


def slots(rows: Sequence[BranchRow], sharing: Sharing) -> int:
    """Token slots that a micro-batch of these rows computes, padding included."""
    if sharing == "trees":
        return sum(row.size for row in rows)
    if sharing == "flex":
        return -(-sum(row.size for row in rows) // FLEX_BLOCK) * FLEX_BLOCK
    if sharing == "mask":
        return len(rows) * max(row.size for row in rows)
    return sum(len(row.branch_lengths) for row in rows) * max(row.longest for row in rows)


def cut(rows: Sequence[BranchRow], *, budget: int, sharing: Sharing, at_least: int = 1) -> list[Part]:
    """Cut a step's rows, sorted by length, into parts of at most `budget` token slots each.

    Among all such cuts this is the one with the fewest slots, a part counting as 128 more; among equals, the one whose
    largest part is smallest. A row that exceeds the budget alone gets a part of its own. Every row is in exactly one
    part.

    Args:
        rows: The step's rows, in the order of the loader.
        budget: Token slots a part may compute.
        sharing: How the model computes branches, which decides what padding costs.
        at_least: Number of parts to make at least, as far as there are rows for them.
    """
    order = sorted(range(len(rows)), key=lambda i: (_length(rows[i], sharing), i))
    ordered = [rows[i] for i in order]
    # best[end]: cost of the cheapest cut of the first `end` rows, its largest part, and where its last part starts
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for end in range(1, len(rows) + 1):
        options = (
            (best[start][0] + size + _PART_COST, max(best[start][1], size), start)
            for start, size in _last_parts(ordered, end, sharing, budget=budget)
        )
        best.append(min(options))
    bounds = [len(rows)]
    while bounds[-1] > 0:
        bounds.append(best[bounds[-1]][2])
    bounds.reverse()
    parts = [order[start:end] for start, end in pairwise(bounds)]
    while len(parts) < min(at_least, len(rows)):
        largest = max(range(len(parts)), key=lambda i: len(parts[i]))
        half = len(parts[largest]) // 2
        parts[largest : largest + 1] = [parts[largest][:half], parts[largest][half:]]
    return [tuple(part) for part in parts]


def _length(row: BranchRow, sharing: Sharing) -> int:
    return row.longest if sharing == "separate" else row.size


def _last_parts(ordered: Sequence[BranchRow], end: int, sharing: Sharing, *, budget: int) -> Iterator[tuple[int, int]]:
    """Where a part that ends before `end` may start, and the slots it then computes; rows are sorted by length."""
    longest = _length(ordered[end - 1], sharing)
    total = 0
    for start in range(end - 1, -1, -1):
        row = ordered[start]
        if sharing in ("trees", "flex"):
            total += row.size
        else:
            total += longest * (len(row.branch_lengths) if sharing == "separate" else 1)
        size = -(-total // FLEX_BLOCK) * FLEX_BLOCK if sharing == "flex" else total
        if size > budget and start < end - 1:
            return
        yield start, size


def share_out(rows: Sequence[BranchRow], *, devices: int, budget: int, sharing: Sharing) -> list[list[Part]]:
    """Parts of each device, as even in tokens as the rows allow, and equally many on each.

    Devices that shard weights take part in each other's passes, so all must make the same number; where a device has
    no row left for one, its part is empty. The parts of all devices together hold every row once.

    Args:
        rows: All rows of the step, on every device the same.
        devices: How many devices there are.
        budget: Token slots a part may compute.
        sharing: How the model computes branches.
    """
    hands: list[list[int]] = [[] for _ in range(devices)]
    load = np.zeros(devices, np.int64)
    for position in sorted(range(len(rows)), key=lambda i: (-slots([rows[i]], sharing), i)):
        lightest = int(load.argmin())
        hands[lightest].append(position)
        load[lightest] += slots([rows[position]], sharing)
    hands = [sorted(hand) for hand in hands]

    def cut_hand(hand: Sequence[int], at_least: int) -> list[Part]:
        mine = [rows[i] for i in hand]
        return [tuple(hand[i] for i in part) for part in cut(mine, budget=budget, sharing=sharing, at_least=at_least)]

    most = max(len(cut_hand(hand, 1)) for hand in hands)
    parts = [cut_hand(hand, most) for hand in hands]
    # An empty part comes first: the last pass is the one that synchronises gradients.
    return [[()] * (most - len(mine)) + mine for mine in parts]
