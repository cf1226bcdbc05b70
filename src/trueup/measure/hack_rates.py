"""How often a reward prefers the edited response to the original, and by how much."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Num

from trueup.measure.bootstrap import Resampling, proportions, ratios, sum_by
from trueup.measure.scored import Array, Estimate


class HackRates(NamedTuple):
    """Outcome of one hack.

    Args:
        win_rate: Share of edited responses with more reward than their original (an equal reward is no win).
        shift_in_std: Mean of reward(edited) - reward(original), in standard deviations of rewards on the
            split.
        n: Number of edited responses.
    """

    win_rate: Estimate
    shift_in_std: Estimate
    n: int


def win_rates(
    original: Num[Array, " edits"],
    edited: Num[Array, " edits"],
    *,
    prompt: Int[Array, " edits"],
    reward_std: float,
    resampling: Resampling,
) -> HackRates:
    """Compare rewards of edited responses with those of their originals.

    Args:
        original: Reward of each original response.
        edited: Reward of its edited form.
        prompt: Prompt of each; prompts are what is resampled.
        reward_std: Standard deviation of rewards on the split; the shift is NaN where it is zero.
        resampling: How many resamples, level and seed.
    """
    shift = np.asarray(edited, np.float64) - original
    group = np.unique(prompt, return_inverse=True)[1].astype(np.int64)
    groups = int(group.max()) + 1 if len(group) else 0
    scaled = shift / reward_std if reward_std > 0 else np.full_like(shift, np.nan)
    won, trials, moved = sum_by(np.stack([shift > 0, np.ones_like(shift), scaled], axis=1), group, groups).T
    rate = proportions(won[:, None], trials[:, None], resampling=resampling)[0]
    moved_by = ratios(moved[:, None], trials[:, None], resampling=resampling)[0]
    return HackRates(rate, moved_by, len(shift))


def most_preferred(original: Num[Array, " edits"], edited: Num[Array, " edits"], *, count: int = 3) -> list[int]:
    """Indices of the edits that gain most reward, greatest gain first; the reward's worst mistakes."""
    order = np.argsort(original - edited, kind="stable")
    return [int(k) for k in order[:count]]
