"""Preference oracles: how probable it is that one response is preferred to another.

`P(y > y' | x)` in [0, 1]. Nothing says that it follows from a reward (Bradley-Terry): preferences may run in circles.
What it must satisfy is `P(y > y') + P(y' > y) = 1`, and judges that favour what they read first do not.

**Source** general preferences: Munos et al. (2024), Nash Learning from Human Feedback, arXiv 2312.00886, section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, SupportsFloat, runtime_checkable

import numpy as np
from jaxtyping import Float

from trueup.data.rows import Prompt
from trueup.errors import RecipeError

Array = np.ndarray


@runtime_checkable
class PreferenceOracle(Protocol):
    """Anything that compares."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def prefer(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float[Array, " comparisons"]:
        """`P(first > second | prompt)` of each comparison, in [0, 1]; all three sequences are equally long."""
        ...


@dataclass(frozen=True, kw_only=True)
class BothOrders:
    """Comparisons asked in both orders.

    Args:
        forward: `P(first > second)`, asked in this order.
        backward: `P(second > first)`, asked the other way round.
    """

    forward: Float[Array, " comparisons"]
    backward: Float[Array, " comparisons"]

    @property
    def preference(self) -> Float[Array, " comparisons"]:
        """`(P(first > second) + 1 - P(second > first)) / 2`: antisymmetric about one half, whatever the oracle says."""
        return (self.forward + 1 - self.backward) / 2

    @property
    def excess(self) -> Float[Array, " comparisons"]:
        """`P(first > second) + P(second > first) - 1`: positive where the response that stands first is favoured."""
        return self.forward + self.backward - 1


class Contradiction(NamedTuple):
    """One comparison whose two orders do not agree; fields as in `BothOrders`."""

    prompt: Prompt
    first: str
    second: str
    forward: float
    backward: float


@dataclass(frozen=True, kw_only=True)
class Contradictions:
    """How far an oracle contradicts itself.

    Args:
        mean: Mean of `|P(first > second) + P(second > first) - 1|`: 0 for a consistent oracle, 1 where the order alone
            decides.
        position_bias: Mean of the same without the absolute value; positive where what stands first is favoured.
        reversals: Share of comparisons in which the two orders prefer different responses.
        comparisons: How many were asked, each in both orders.
        worst: Those with the largest contradiction, largest first.
    """

    mean: float
    position_bias: float
    reversals: float
    comparisons: int
    worst: tuple[Contradiction, ...]


def ask_both_orders(
    oracle: PreferenceOracle, prompts: Sequence[Prompt], *, first: Sequence[str], second: Sequence[str]
) -> BothOrders:
    """Ask each comparison in both orders, all in one call.

    Raises:
        RecipeError: The oracle returns anything but one probability for each comparison.
    """
    asked = [*prompts, *prompts]
    told = oracle.prefer(asked, [*first, *second], [*second, *first])
    values = checked_probabilities(told, comparisons=len(asked), name=oracle.name)
    return BothOrders(forward=values[: len(prompts)], backward=values[len(prompts) :])


def contradictions(
    oracle: PreferenceOracle, prompts: Sequence[Prompt], *, first: Sequence[str], second: Sequence[str], most: int = 3
) -> Contradictions:
    """Measure how far an oracle contradicts itself; intervals are those of `trueup.measure.preference_oracle`.

    Args:
        oracle: What is measured.
        prompts: One for each comparison.
        first: A response to each.
        second: Another response to each.
        most: Examples that are returned.

    Raises:
        RecipeError: The oracle returns anything but one probability for each comparison.
    """
    both = ask_both_orders(oracle, prompts, first=first, second=second)
    distance = np.abs(both.excess)
    order = [int(place) for place in np.argsort(-distance, kind="stable")[:most] if distance[place] > 0]
    reversed_ = (both.forward - 0.5) * (both.backward - 0.5) > 0
    known = len(distance) > 0
    return Contradictions(
        mean=float(distance.mean()) if known else math.nan,
        position_bias=float(both.excess.mean()) if known else math.nan,
        reversals=float(reversed_.mean()) if known else math.nan,
        comparisons=len(distance),
        worst=tuple(
            Contradiction(prompts[k], first[k], second[k], float(both.forward[k]), float(both.backward[k]))
            for k in order
        ),
    )


@dataclass(frozen=True)
class Symmetrized:
    """An oracle asked in both orders, which are averaged: it cannot contradict itself.

    Args:
        oracle: What is asked, twice for each comparison.
    """

    oracle: PreferenceOracle

    @property
    def name(self) -> str:
        """That of the oracle."""
        return self.oracle.name

    def prefer(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float[Array, " comparisons"]:
        """`(P(first > second) + 1 - P(second > first)) / 2`."""
        return ask_both_orders(self.oracle, prompts, first=first, second=second).preference


def symmetrized(oracle: PreferenceOracle) -> Symmetrized:
    """An oracle that averages both orders of another; one that does so already is returned as it is."""
    return oracle if isinstance(oracle, Symmetrized) else Symmetrized(oracle)


def checked_probabilities(
    values: Sequence[Any] | Array, *, comparisons: int, name: str
) -> Float[Array, " comparisons"]:
    """Probabilities as an oracle returned them.

    Raises:
        RecipeError: There is another number of them, or one is no number from 0 to 1.
    """
    if len(values) != comparisons:
        raise RecipeError(
            f"{name} returned {len(values)} probabilities for {comparisons} comparisons; return one for each"
        )
    numbers = [_number(value) for value in values]
    for place, number in enumerate(numbers):
        if not 0 <= number <= 1:
            raise RecipeError(
                f"{name} returned {values[place]!r} for comparison {place}; "
                "return the probability, from 0 to 1, that the first response is preferred"
            )
    return np.asarray(numbers, np.float64)


def _number(value: object) -> float:
    """A number, NaN for what is none; a text is none."""
    try:
        return float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError, RuntimeError):  # arrays and tensors of several numbers
        return math.nan
