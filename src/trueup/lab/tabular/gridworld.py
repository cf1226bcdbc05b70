"""A small board whose proxy pays for a corner that the reference hardly ever visits.

The walker starts in one corner; the true reward pays 1 for every step into three cells at the opposite corner. The
proxy pays that too, and a bonus at a third corner that is nearer. Under the reference the two rewards correlate almost
perfectly, and the optimum of the proxy has a true return of 0.

**Source** the correlated-proxy set-up of Laidlaw, Singhal, Dragan (2025), arXiv 2403.03185, at a size where everything
is exact; the board is ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from trueup.lab.tabular.mdp import Mdp, Problem, explorative, soft_optimal

Cell = tuple[int, int]
"""Row and column, counted from 0."""

MOVES: tuple[Cell, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))
"""Up, down, left, right, stay."""

REFERENCE_TEMPERATURE, REFERENCE_SHARE = 0.3, 0.3


@dataclass(frozen=True, kw_only=True)
class Board:
    """A gridworld.

    Args:
        size: Cells on each side; the start is the first cell.
        goals: What the true reward pays for stepping into a cell.
        trap: The cell of the bonus.
        bonus: What the proxy pays there on top.
        walls: Cells that cannot be entered.
        slip: Probability that a move goes in a uniformly random direction instead.
        gamma: Discount.
    """

    size: int = 5
    goals: tuple[tuple[Cell, float], ...] = (((4, 4), 1.0), ((3, 4), 1.0), ((2, 4), 1.0))
    trap: Cell = (4, 0)
    bonus: float = 2.0
    walls: frozenset[Cell] = frozenset()
    slip: float = 0.0
    gamma: float = 0.95

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Cells that can be entered, by row and column."""
        every = ((row, column) for row in range(self.size) for column in range(self.size))
        return tuple(cell for cell in every if cell not in self.walls)


def arrivals(cells: Sequence[Cell]) -> Int[np.ndarray, "cells moves"]:
    """Which cell each move leads to from each cell; what would leave the cells stays where it is."""
    place = {cell: number for number, cell in enumerate(cells)}
    return np.array(
        [[place.get((row + down, column + right), here) for down, right in MOVES]
         for here, (row, column) in enumerate(cells)]
    )  # fmt: skip


def gridworld(board: Board | None = None) -> Problem:
    """The board, held to a reference that is soft-optimal for the true reward and explores."""
    board = board or Board()
    cells = board.cells
    steps = torch.nn.functional.one_hot(torch.from_numpy(arrivals(cells)), len(cells)).double()
    transition = (1 - board.slip) * steps + board.slip * steps[:, :4].mean(1, keepdim=True)
    true, bonus = torch.zeros(2, len(cells), dtype=torch.float64)
    for cell, amount in board.goals:
        true[cells.index(cell)] = amount
    bonus[cells.index(board.trap)] = board.bonus
    start = torch.nn.functional.one_hot(torch.tensor(0), len(cells)).double()
    mdp = Mdp(
        transition=transition,
        start=start,
        gamma=board.gamma,
        true=transition @ true,
        proxy=transition @ (true + bonus),
    )
    return Problem(mdp=mdp, reference=explorative(soft_optimal(mdp, temperature=REFERENCE_TEMPERATURE),
                                                  share=REFERENCE_SHARE))  # fmt: skip


def varied_board(seed: int) -> Board:
    """The standard board for seed 0; otherwise other payments, up to two walls, and slipping.

    Goals pay 0.7 to 1.3 each, the bonus is 1.5 to 3, moves slip with probability 0 to 0.1; walls leave every cell
    reachable.
    """
    if seed == 0:
        return Board()
    rng = np.random.default_rng(seed)
    plain = Board()
    goals = tuple((cell, float(rng.uniform(0.7, 1.3))) for cell, _ in plain.goals)
    inner = [(row, column) for row in range(1, 4) for column in range(1, 4)]
    walls = frozenset(inner[number] for number in rng.choice(len(inner), size=rng.integers(0, 3), replace=False))
    bonus, slip = float(rng.uniform(1.5, 3.0)), float(rng.uniform(0, 0.1))
    return Board(goals=goals, bonus=bonus, slip=slip, walls=walls)


def reachable(cells: Collection[Cell], start: Cell) -> set[Cell]:
    """Cells that steps from `start` lead to."""
    found, open_cells = {start}, [start]
    while open_cells:
        row, column = open_cells.pop()
        near = {(row + down, column + right) for down, right in MOVES} & set(cells) - found
        found |= near
        open_cells += near
    return found
