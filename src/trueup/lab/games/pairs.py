"""Pairs that rounds of self-play learn from: which response was preferred to which, and how often."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from trueup.errors import RecipeError

Array = np.ndarray
Selection = Literal["independent", "tournament"]


@dataclass(frozen=True, kw_only=True)
class DrawnPairs:
    """Preferences of one round of one game.

    Args:
        counts: How often the row was preferred to the column.
        calls: Comparisons that the oracle was asked for.
        dropped: Tournaments whose winner lost the last comparison.
    """

    counts: Int[Array, "k k"]
    calls: int
    dropped: int = 0


def draw_pairs(
    policy: Float64[Array, " k"],
    preferred: Float64[Array, "k k"],
    *,
    selection: Selection,
    count: int,
    generator: np.random.Generator,
) -> DrawnPairs:
    """Let a policy answer and an oracle choose.

    Args:
        policy: Probability of each response.
        preferred: P(row > column).
        selection: Two independent responses a pair, or best against worst of eight by a tournament.
        count: Pairs that are drawn, before any are dropped.
        generator: What draws.
    """
    if selection == "independent":
        return independent_pairs(policy, preferred, count=count, generator=generator)
    return tournament_pairs(policy, preferred, count=count, generator=generator)


def independent_pairs(
    policy: Float64[Array, " k"], preferred: Float64[Array, "k k"], *, count: int, generator: np.random.Generator
) -> DrawnPairs:
    """Two independent responses, ordered by one draw of the oracle."""
    first, second = generator.choice(len(policy), size=(2, count), p=policy)
    chosen, rejected = _met(first, second, preferred=preferred, generator=generator)
    return DrawnPairs(counts=_counted(chosen, rejected, k=len(policy)), calls=count)


def tournament_pairs(
    policy: Float64[Array, " k"],
    preferred: Float64[Array, "k k"],
    *,
    count: int,
    generator: np.random.Generator,
    entrants: int = 8,
) -> DrawnPairs:
    """Best against worst of eight: winners meet winners, losers losers; the last two meet once more.

    A group whose best then loses gives no pair. With eight entrants the oracle is asked 11 times.

    Raises:
        RecipeError: The number of entrants is no power of two above 1.
    """
    if entrants < 2 or entrants & (entrants - 1):
        raise RecipeError(f"entrants must be a power of two above 1, got {entrants}")
    drawn = generator.choice(len(policy), size=(count, entrants), p=policy)
    best, worst = _neighbours(drawn, preferred, generator)
    calls = entrants // 2
    while best.shape[1] > 1:
        calls += best.shape[1]
        best, _ = _neighbours(best, preferred, generator)
        _, worst = _neighbours(worst, preferred, generator)
    kept = _compared(best[:, 0], worst[:, 0], preferred=preferred, generator=generator)
    counts = _counted(best[kept, 0], worst[kept, 0], k=len(policy))
    return DrawnPairs(counts=counts, calls=count * (calls + 1), dropped=int((~kept).sum()))


def expected_pairs(policy: Float64[Array, "*n k"], preferred: Float64[Array, "*n k k"]) -> Float64[Array, "*n k k"]:
    """Probability of each (chosen, rejected) of two independent responses and one draw of the oracle."""
    return np.asarray(2 * policy[..., :, None] * policy[..., None, :] * preferred)


def _counted(chosen: Int[Array, " n"], rejected: Int[Array, " n"], *, k: int) -> Int[Array, "k k"]:
    return np.bincount(chosen * k + rejected, minlength=k * k).reshape(k, k)


def _neighbours(
    drawn: Int[Array, "groups entrants"], preferred: Float64[Array, "k k"], generator: np.random.Generator
) -> tuple[Int[Array, "groups half"], Int[Array, "groups half"]]:
    """Neighbours meet: winners and losers."""
    return _met(drawn[:, ::2], drawn[:, 1::2], preferred=preferred, generator=generator)


def _met(
    first: Int[Array, "*n"],
    second: Int[Array, "*n"],
    *,
    preferred: Float64[Array, "k k"],
    generator: np.random.Generator,
) -> tuple[Int[Array, "*n"], Int[Array, "*n"]]:
    """Winners and losers of one comparison each."""
    won = _compared(first, second, preferred=preferred, generator=generator)
    return np.where(won, first, second), np.where(won, second, first)


def _compared(
    first: Int[Array, "*n"],
    second: Int[Array, "*n"],
    *,
    preferred: Float64[Array, "k k"],
    generator: np.random.Generator,
) -> Bool[Array, "*n"]:
    return np.asarray(generator.random(first.shape) < preferred[first, second])
