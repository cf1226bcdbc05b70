"""How far the reward orders responses as the data do: pair accuracy, and Kendall's tau against gold.

**Source** Hong, Lee et al. (2025), On the Robustness of Reward Models for Language Model Alignment, arXiv
2505.07271.
"""

import numpy as np
from jaxtyping import Float

from trueup.measure.bootstrap import Resampling, divide, mean, proportions, sum_by
from trueup.measure.scored import Array, Estimate, ScoredSplit


def pair_wins(split: ScoredSplit) -> Float[Array, "prompts 2"]:
    """For each prompt, how many pairs the reward orders as labelled, and how many pairs there are."""
    won = (split.margin > 0).astype(np.float64)
    return sum_by(np.stack([won, np.ones_like(won)], axis=1), split.prompt[split.pairs[:, 0]], split.prompts)


def accuracy(split: ScoredSplit, *, resampling: Resampling) -> Estimate:
    """Fraction of pairs with reward(chosen) > reward(rejected). A tie is not a win; see `ties`."""
    wins = pair_wins(split)
    return proportions(wins[:, :1], wins[:, 1:], resampling=resampling)[0]


def ties(split: ScoredSplit) -> int:
    """Number of pairs with equal rewards."""
    return int(np.count_nonzero(split.margin == 0))


def kendall_tau(split: ScoredSplit) -> Float[Array, " prompts"]:
    """Kendall's tau-b between reward and gold, for each prompt.

    `tau = sum_{i<j} sign(r_i - r_j) sign(g_i - g_j) / sqrt(untied pairs in r * untied pairs in g)`.
    Responses without a gold score are left out. Example: rewards (1, 2, 3) and gold (1, 3, 2) give 1/3.

    Returns:
        One value for each prompt; NaN where reward or gold is constant, or fewer than two responses have
        gold.
    """
    if split.gold is None:
        return np.full(split.prompts, np.nan)
    sizes = np.bincount(split.prompt, minlength=split.prompts)
    starts = np.cumsum(sizes) - sizes
    out = np.full(split.prompts, np.nan)
    for size in np.unique(sizes[sizes > 1]):
        chosen = np.flatnonzero(sizes == size)
        members = starts[chosen][:, None] + np.arange(size)
        out[chosen] = tau_b(split.reward[members], split.gold[members])
    return out


def tau_b(a: Float[Array, "rows k"], b: Float[Array, "rows k"]) -> Float[Array, " rows"]:
    """Kendall's tau-b of each row; entries that are NaN in either are left out; NaN where undefined."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
    agreement, untied_a, untied_b = np.zeros((3, len(a)))
    for i in range(a.shape[1] - 1):
        both = known[:, i, None] & known[:, i + 1 :]
        order_a = np.where(both, np.sign(a[:, i, None] - a[:, i + 1 :]), 0.0)
        order_b = np.where(both, np.sign(b[:, i, None] - b[:, i + 1 :]), 0.0)
        agreement += (order_a * order_b).sum(axis=1)
        untied_a += np.abs(order_a).sum(axis=1)
        untied_b += np.abs(order_b).sum(axis=1)
    return divide(agreement, np.sqrt(untied_a * untied_b))


def rankable(split: ScoredSplit) -> int:
    """Number of prompts with gold scores for at least two responses."""
    if split.gold is None:
        return 0
    return int(np.count_nonzero(np.bincount(split.prompt[np.isfinite(split.gold)]) > 1))


def mean_tau(split: ScoredSplit, *, resampling: Resampling) -> tuple[Estimate, int]:
    """Mean of `kendall_tau` where it is defined, and the number of rankable prompts where it is not."""
    tau = kendall_tau(split)
    return mean(tau, resampling=resampling), rankable(split) - int(np.count_nonzero(np.isfinite(tau)))
