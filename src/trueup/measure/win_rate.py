"""How often a policy's responses are preferred to a reference's to the same prompts.

With `p = P(policy > reference)` and `p' = P(reference > policy)`, each asked of the oracle in its own order,

    win = (p + 1 - p') / 2

so that an oracle that favours what stands first gains the policy nothing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trueup.measure.bootstrap import Resampling, proportions, sum_by
from trueup.measure.preference_oracle import Consistency, by_prompt, checked_orders, consistency
from trueup.measure.scored import Array, Estimate

# Nearer to one half than this is rounding of the mean of both orders.
_TIE = 1e-12


class WinRate(NamedTuple):
    """Policy against reference.

    Args:
        rate: Mean of `win`, the probability that the policy's response is preferred; 1/2 for a policy against itself.
        decided: Share of comparisons with `win > 1/2`; ties count one half. Above `rate` where many are won narrowly.
        first: Mean of p: the policy's response stands first.
        second: Mean of 1 - p': it stands second.
        ties: Share of comparisons with `win = 1/2`.
        consistency: How far the oracle contradicts itself on these comparisons.
        comparisons: How many there are.
    """

    rate: Estimate
    decided: Estimate
    first: Estimate
    second: Estimate
    ties: Estimate
    consistency: Consistency
    comparisons: int


def wins(forward: Float[Array, " comparisons"], backward: Float[Array, " comparisons"]) -> Float[Array, " comparisons"]:
    """`(P(policy > reference) + 1 - P(reference > policy)) / 2` of each comparison.

    Example: asked both ways, the oracle says 0.9 of what stands first; then neither wins.

    >>> wins(np.array([0.9, 0.8]), np.array([0.9, 0.2])).round(6).tolist()
    [0.5, 0.8]

    Raises:
        DataError: A probability is missing or outside [0, 1].
    """
    forward, backward = checked_orders(forward, backward)
    return (forward + 1 - backward) / 2


def decisions(win: Float[Array, " comparisons"]) -> Float[Array, " comparisons"]:
    """1 for a win, 0 for a loss, 1/2 for a tie."""
    return np.where(np.abs(win - 0.5) <= _TIE, 0.5, win > 0.5).astype(np.float64)


def win_rate(
    forward: Float[Array, " comparisons"],
    backward: Float[Array, " comparisons"],
    *,
    prompt: Int[Array, " comparisons"],
    resampling: Resampling,
) -> WinRate:
    """Win rate with intervals by resampling prompts.

    Args:
        forward: P(policy > reference), the policy's response standing first.
        backward: P(reference > policy), the reference's standing first.
        prompt: Prompt of each comparison; one prompt may have several.
        resampling: How intervals are made.

    Raises:
        DataError: A probability is missing or outside [0, 1].
    """
    win = wins(forward, backward)
    outcome = decisions(win)
    columns = np.stack([win, outcome, forward, 1 - backward, outcome == 0.5], axis=1)
    unit, units = by_prompt(prompt)
    asked = np.repeat(sum_by(np.ones_like(win), unit, units), columns.shape[1], axis=1)
    rate, decided, first, second, ties = proportions(sum_by(columns, unit, units), asked, resampling=resampling)
    return WinRate(
        rate=rate,
        decided=decided,
        first=first,
        second=second,
        ties=ties,
        consistency=consistency(forward, backward, prompt=prompt, resampling=resampling),
        comparisons=len(win),
    )
