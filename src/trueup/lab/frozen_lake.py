"""Frozen Lake on its 4x4 map, as a table and as text: who walks on slippery ice to the goal without falling in.

A walk is written as the cell that it starts from, which is the prompt, and then move and cell in turn, which is the
response: `a` and `vev` for two steps down, of which the second slipped. So a language model that learned walks is a
policy, and a model of the lake.

**Source** the map, the moves and the slipping are those of Frozen Lake in Gymnasium, whose default slips to either side
in a third of all moves; value iteration is the textbook's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from trueup.data.rows import Origin, Response, Row
from trueup.errors import DataError, RecipeError
from trueup.models.policy_checkpoints import PolicyCheckpoint

Array = np.ndarray

MAP = ("SFFF", "FHFH", "FFFH", "HFFG")
"""Start, frozen, hole, goal."""

CELLS, MOVES = "abcdefghijklmnop", "<v>^"
ALPHABET = CELLS + MOVES
_STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))
_SIDE, _TIE = 4, 1e-9


@dataclass(frozen=True, kw_only=True)
class Lake:
    """The lake.

    Args:
        slip: Share of moves that go to one of the two sides instead, each in half of them.
        limit: Moves after which a walk is cut.
        discount: Of value iteration: a walk's worth is this, to the power of its moves, where it reaches the goal.
    """

    slip: float = 1 / 3
    limit: int = 30
    discount: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.slip <= 1 or self.limit < 1 or not 0 < self.discount < 1:
            raise RecipeError(
                f"slip must lie between 0 and 1, limit be at least 1 and discount lie in (0, 1), got {self.slip}, "
                f"{self.limit} and {self.discount}"
            )

    @cached_property
    def kinds(self) -> str:
        """What each cell is."""
        return "".join(MAP)

    @property
    def goal(self) -> int:
        """The goal's cell."""
        return self.kinds.index("G")

    @cached_property
    def ends(self) -> Bool[Array, " cells"]:
        """Which cells end a walk."""
        return np.asarray([kind in "HG" for kind in self.kinds])

    @cached_property
    def safe(self) -> Int[Array, " safe"]:
        """Cells in which a move is chosen."""
        return np.flatnonzero(~self.ends)

    @cached_property
    def transition(self) -> Float[Array, "cells moves cells"]:
        """Probability of the next cell; a walk that has ended stays where it is."""
        table = np.zeros((len(self.kinds), len(MOVES), len(self.kinds)))
        for cell in range(len(self.kinds)):
            for move in range(len(MOVES)):
                for turn, share in ((0, 1 - self.slip), (1, self.slip / 2), (-1, self.slip / 2)):
                    table[cell, move, self._after(cell, (move + turn) % len(MOVES))] += share
        return table

    def _after(self, cell: int, move: int) -> int:
        if self.ends[cell]:
            return cell
        (row, column), (down, right) = divmod(cell, _SIDE), _STEPS[move]
        return int(np.clip(row + down, 0, _SIDE - 1)) * _SIDE + int(np.clip(column + right, 0, _SIDE - 1))

    @cached_property
    def optimal(self) -> Float[Array, "cells moves"]:
        """Probability of each move under the optimal policy, moves of equal worth alike; by value iteration."""
        worth = (np.arange(len(self.kinds)) == self.goal).astype(float)
        while True:
            advice = self.discount * self.transition @ worth
            found = np.where(self.ends, worth, advice.max(axis=1))
            if np.abs(found - worth).max() < _TIE / 1e3:
                best = advice >= advice.max(axis=1, keepdims=True) - _TIE
                return best / best.sum(axis=1, keepdims=True)
            worth = found

    @property
    def uniform(self) -> Float[Array, "cells moves"]:
        """The policy that moves at random."""
        return np.full((len(self.kinds), len(MOVES)), 1 / len(MOVES))

    def success(self, policy: Float[Array, "cells moves"]) -> float:
        """Probability that a policy reaches the goal from the first cell within the limit."""
        step = np.einsum("sm,smt->st", policy, self.transition)
        return float(np.linalg.matrix_power(step, self.limit)[0, self.goal])

    def walk(
        self, policy: Float[Array, "cells moves"], start: int, *, generator: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Moves of a walk and the cells that they led to."""
        found: list[tuple[int, int]] = []
        cell = start
        while not self.ends[cell] and len(found) < self.limit:
            move = int(generator.choice(len(MOVES), p=policy[cell]))
            cell = int(generator.choice(len(self.kinds), p=self.transition[cell, move]))
            found.append((move, cell))
        return found


def walk_text(walk: Sequence[tuple[int, int]]) -> str:
    """A walk after its start, as a response."""
    return "".join(MOVES[move] + CELLS[cell] for move, cell in walk)


def random_walks(lake: Lake, count: int, *, seed: int) -> list[Row]:
    """Walks at random from random cells."""
    generator = np.random.default_rng(seed)
    starts = generator.choice(lake.safe, size=count)
    return [_row(n, start, [lake.walk(lake.uniform, start, generator=generator)]) for n, start in enumerate(starts)]


def expert_walks(lake: Lake, count: int, *, seed: int, against_random: bool = False) -> list[Row]:
    """Walks of the optimal policy from random cells that reach the goal.

    Args:
        lake: The lake.
        count: How many.
        seed: Seed of starts, moves and slips.
        against_random: Whether each is preferred to a walk at random from the same cell.
    """
    generator, others = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    rows: list[Row] = []
    while len(rows) < count:
        start = int(generator.choice(lake.safe))
        walk = lake.walk(lake.optimal, start, generator=generator)
        if walk[-1][1] == lake.goal:
            worse = [lake.walk(lake.uniform, start, generator=others)] if against_random else []
            rows.append(_row(len(rows), start, [walk, *worse]))
    return rows


def _row(number: int, start: int, walks: Sequence[Sequence[tuple[int, int]]]) -> Row:
    preferred = len(walks) > 1
    responses = [
        Response(text=walk_text(walk), label=place == 0 if preferred else None) for place, walk in enumerate(walks)
    ]
    return Row(
        prompt=CELLS[start], responses=tuple(responses), id=str(number), origin=Origin("frozen lake", number + 1)
    )


@dataclass(frozen=True, kw_only=True)
class Walked:
    """What a policy does on the lake.

    Args:
        moves: Probability of each move in each safe cell, where a walk starts there; what is left over goes to tokens
            that are no moves.
        distance: Squared distance of `moves` from the optimal policy, mean over the safe cells.
        met: The same in the cells that its own walks from the first cell meet, mean over their moves; moves alone
            compete there.
        success: Share of these walks that reach the goal.
    """

    moves: Float[Array, "safe moves"]
    distance: float
    met: float
    success: float


@torch.inference_mode()
def walk_with(policy: PolicyCheckpoint, lake: Lake, *, walks: int, seed: int) -> Walked:
    """Ask a policy for its moves, and let it walk.

    Args:
        policy: A language model of walks.
        lake: The lake.
        walks: How many walks are made.
        seed: Seed of moves and slips.
    """
    core, tokenizer = policy.model.core, policy.tokenizer
    cells, moves = (torch.tensor(tokenizer.convert_tokens_to_ids(list(names))) for names in (CELLS, MOVES))
    if bool((torch.cat([cells, moves]) == tokenizer.unk_token_id).any()):
        raise DataError("the policy's tokenizer lacks cells or moves", expected=f"a token for each of {ALPHABET}")
    first = torch.softmax(core(cells[lake.safe][:, None]).logits[:, -1].double(), -1)[:, moves].numpy()
    generator, cell = np.random.default_rng(seed), np.zeros(walks, np.int64)
    read, cache, missed = cells[cell][:, None], None, []
    for _ in range(lake.limit):
        going = ~lake.ends[cell]
        if not going.any():
            break
        out = core(read, past_key_values=cache, use_cache=True)
        chance, cache = torch.softmax(out.logits[:, -1].double()[:, moves], -1).numpy(), out.past_key_values
        missed += np.square(chance - lake.optimal[cell]).sum(axis=1)[going].tolist()
        move = _choose(chance, generator)
        cell = _choose(lake.transition[cell, move], generator)
        read = torch.stack([moves[move], cells[cell]], dim=1)
    return Walked(
        moves=first,
        distance=float(np.square(first - lake.optimal[lake.safe]).sum(axis=1).mean()),
        met=float(np.mean(missed)),
        success=float(np.mean(cell == lake.goal)),
    )


def _choose(chances: Float[Array, "rows outcomes"], generator: np.random.Generator) -> Int[Array, " rows"]:
    """One outcome for each row."""
    aim = generator.random((len(chances), 1)) * chances.sum(axis=1, keepdims=True)
    return np.asarray((chances.cumsum(axis=1) <= aim).sum(axis=1).clip(max=chances.shape[1] - 1))
