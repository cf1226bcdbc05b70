"""The shared-prompt forward: where each token of a prompt and its branches sits, and what it may see.

    tokens     p0 p1 p2 | a0 a1 a2 a3 | b0 b1
    branch      0  0  0    1  1  1  1    2  2     0 is the shared prompt
    position    0  1  2    3  4  5  6    3  4     positions restart after the prompt
    mask       token i sees token j  iff  j <= i, same tree, and branch[j] is 0 or branch[i]

A tree is one row of data. A layout places trees into a [rows, slots] grid: one tree a row (`padded`), all trees behind
one another in a single row (`packed`), or one branch a row with its prompt repeated (`separate`, the ordinary
computation, for models that cannot share). The mask rule is the same in all three.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from trueup.data.branches import BranchRow

PAD = -1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Trees of tokens in a grid.

    Args:
        input_ids: Token ids; 0 where padded (nothing attends to it and nothing is read from it).
        position_ids: Position of each token in its own sequence.
        tree: Number of each token's tree within the batch, -1 where padded.
        branch: 0 for the shared prompt, else 1, 2, ...; -1 where padded.
        last: Flat index of each branch's last token, in the order of the rows and their branches.
        trees: (start, prompt length, branch lengths ...) of each tree of a packed row; empty when not packed.
    """

    input_ids: Int[Tensor, "rows slots"]
    position_ids: Int[Tensor, "rows slots"]
    tree: Int[Tensor, "rows slots"]
    branch: Int[Tensor, "rows slots"]
    last: Int[Tensor, " branches"]
    trees: tuple[tuple[int, ...], ...] = ()

    @property
    def real(self) -> Bool[Tensor, "rows slots"]:
        """Which slots hold a token."""
        return self.tree >= 0

    @cached_property
    def slots(self) -> int:
        """Token slots computed, padding included."""
        return self.input_ids.numel()

    def to(self, device: torch.device | str) -> "Layout":
        """The same layout on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return Layout(**moved, trees=self.trees)


_TENSORS = ("input_ids", "position_ids", "tree", "branch", "last")


def visible(layout: Layout, *, window: int | None = None) -> Bool[Tensor, "rows 1 slots slots"]:
    """The mask rule as a boolean 4-D mask, True where a token is seen.

    Args:
        layout: Where the tokens are.
        window: Sliding window in tokens of the model's own sequence, or None for full attention.
    """
    query, key = (slice(None), slice(None), None), (slice(None), None, slice(None))
    slot = torch.arange(layout.input_ids.shape[1], device=layout.input_ids.device)
    branch, tree, position = layout.branch, layout.tree, layout.position_ids
    seen = (slot[None, :, None] >= slot[None, None, :]) & (tree[query] == tree[key])
    seen = seen & ((branch[key] == 0) | (branch[key] == branch[query]))
    if window is not None:
        seen = seen & (position[query] - position[key] < window)
    # A padded slot sees itself, or its softmax would be 0/0 and its gradient NaN.
    itself = slot[None, :, None] == slot[None, None, :]
    return (seen | itself)[:, None]


def targets_of(layout: Layout) -> tuple[Int[Tensor, " t"], Int[Tensor, " t"], Int[Tensor, " t"]]:
    """Response tokens as flat slots: where each is predicted from, where it stands, and the number of its branch.

    A branch's first token is predicted from the prompt's last. Tokens come in the order of the rows and branches.

    Raises:
        ValueError: A tree has no prompt, so that nothing predicts its first token.
    """
    tree, branch = layout.tree.flatten(), layout.branch.flatten()
    target = (branch > 0).nonzero()[:, 0]
    first = layout.position_ids.flatten()[target] == 0
    if bool(first.any()):
        raise ValueError("a policy needs at least one token of prompt before a reply")
    # Slots of the prompts' ends: the next slot belongs to another branch or tree.
    slot = torch.arange(len(branch), device=branch.device)
    before = target - 1
    goes_on = (branch[before] == branch[target]) & (tree[before] == tree[target])
    prompt_end = tree.new_zeros(int(tree.max()) + 1)
    prompt = (branch == 0).nonzero()[:, 0]
    prompt_end.scatter_reduce_(0, tree[prompt], slot[prompt], "amax", include_self=False)
    source = torch.where(goes_on, before, prompt_end[tree[target]])
    number = (~goes_on).long().cumsum(0) - 1
    return source, target, number


def _arrays(row: BranchRow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, branch numbers and last indices of one tree that starts at slot 0."""
    lengths = np.asarray(row.branch_lengths)
    prompt = row.prompt_length
    branch = np.repeat(np.arange(len(lengths) + 1), np.concatenate([[prompt], lengths]))
    ends = prompt + np.cumsum(lengths)
    starts = ends - lengths
    position = np.arange(row.size)
    offset = np.concatenate([[0], starts - prompt])
    return position - offset[branch], branch, ends - 1


def _grid(rows: int, slots: int) -> dict[str, np.ndarray]:
    grid = {name: np.zeros((rows, slots), np.int64) for name in ("input_ids", "position_ids")}
    return grid | {name: np.full((rows, slots), PAD, np.int64) for name in ("tree", "branch")}


def _layout(grid: dict[str, np.ndarray], last: Sequence[np.ndarray], trees: Sequence[tuple[int, ...]] = ()) -> Layout:
    tensors = {name: torch.from_numpy(array) for name, array in grid.items()}
    return Layout(**tensors, last=torch.from_numpy(np.concatenate(last)), trees=tuple(trees))


def padded(rows: Sequence[BranchRow]) -> Layout:
    """One tree a row, padded on the right to the largest."""
    slots = max(row.size for row in rows)
    grid, last = _grid(len(rows), slots), []
    for number, row in enumerate(rows):
        position, branch, ends = _arrays(row)
        _place(grid, (number, 0), row.tokens, position, branch, tree=number)
        last.append(number * slots + ends)
    return _layout(grid, last)


def packed(rows: Sequence[BranchRow], *, multiple: int = 1) -> Layout:
    """All trees behind one another in a single row, whose length is rounded up to a multiple."""
    total = sum(row.size for row in rows)
    grid, last, trees, start = _grid(1, -(-total // multiple) * multiple), [], [], 0
    for number, row in enumerate(rows):
        position, branch, ends = _arrays(row)
        _place(grid, (0, start), row.tokens, position, branch, tree=number)
        last.append(start + ends)
        trees.append((start, row.prompt_length, *row.branch_lengths))
        start += row.size
    return _layout(grid, last, trees)


def separate(rows: Sequence[BranchRow]) -> Layout:
    """One branch a row with its prompt repeated, padded on the right: the ordinary computation."""
    sequences = [sequence for row in rows for sequence in row.sequences()]
    prompts = [row.prompt_length for row in rows for _ in row.branch_lengths]
    slots = max(len(sequence) for sequence in sequences)
    grid, last = _grid(len(sequences), slots), []
    for number, sequence in enumerate(sequences):
        size = len(sequence)
        _place(grid, (number, 0), sequence, np.arange(size), (np.arange(size) >= prompts[number]) * 1, tree=number)
        last.append(np.asarray([number * slots + size - 1]))
    return _layout(grid, last)


def _place(
    grid: dict[str, np.ndarray],
    at: tuple[int, int],
    tokens: np.ndarray,
    position: np.ndarray,
    branch: np.ndarray,
    *,
    tree: int,
) -> None:
    row, start = at
    where = slice(start, start + len(tokens))
    grid["input_ids"][row, where] = tokens
    grid["position_ids"][row, where] = position
    grid["branch"][row, where] = branch
    grid["tree"][row, where] = tree
