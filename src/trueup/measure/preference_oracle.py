"""Whether a preference oracle agrees with itself when a comparison is turned round."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling, proportions, ratios, sum_by
from trueup.measure.scored import Array, Estimate


class Consistency(NamedTuple):
    """How an oracle's two orders agree.

    Args:
        excess: Mean of `|P(first > second) + P(second > first) - 1|`: 0 for a consistent oracle, 1 where the order
            alone decides.
        position_bias: Mean of the same without the absolute value, -1 to 1; positive where what stands first is
            favoured.
        reversals: Share of comparisons in which the two orders prefer different responses.
    """

    excess: Estimate
    position_bias: Estimate
    reversals: Estimate


def consistency(
    forward: Float[Array, " comparisons"],
    backward: Float[Array, " comparisons"],
    *,
    prompt: Int[Array, " comparisons"],
    resampling: Resampling,
) -> Consistency:
    """Measure self-contradiction, with intervals by resampling prompts.

    Args:
        forward: P(first > second), asked in this order.
        backward: P(second > first), asked the other way round.
        prompt: Prompt of each comparison.
        resampling: How intervals are made.

    Raises:
        DataError: A probability is missing or outside [0, 1].
    """
    forward, backward = checked_orders(forward, backward)
    unit, units = by_prompt(prompt)
    excess = forward + backward - 1
    reversed_ = (forward - 0.5) * (backward - 0.5) > 0
    sums = sum_by(np.stack([np.abs(excess), excess, reversed_], axis=1), unit, units)
    asked = sum_by(np.ones_like(forward), unit, units)
    distance, reversals = proportions(sums[:, [0, 2]], np.repeat(asked, 2, axis=1), resampling=resampling)
    return Consistency(distance, ratios(sums[:, 1:2], asked, resampling=resampling)[0], reversals)


def checked_orders(
    forward: Float[Array, " comparisons"], backward: Float[Array, " comparisons"]
) -> tuple[Float[Array, " comparisons"], Float[Array, " comparisons"]]:
    """Probabilities of both orders in double precision.

    Raises:
        DataError: There are none, or one is missing or outside [0, 1].
    """
    if not len(forward):
        raise DataError("there are no comparisons", expected="at least one")
    for name, values in (("forward", forward), ("backward", backward)):
        bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(bad):
            found = f"{values[bad[0]]} for comparison {bad[0]}"
            raise DataError(found, field=name, expected="a probability from 0 to 1")
    return forward.astype(np.float64), backward.astype(np.float64)


def by_prompt(prompt: Int[Array, " rows"]) -> tuple[Int[Array, " rows"], int]:
    """Prompts numbered from 0 without gaps, and how many there are."""
    names, unit = np.unique(prompt, return_inverse=True)
    return unit, len(names)
