"""How far the reward follows length."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trueup.measure.bootstrap import Resampling, bootstrap, mean, proportions, ratios, sum_by
from trueup.measure.ranks import spearman_within, weighted_spearman
from trueup.measure.scored import Array, Estimate, ScoredSplit


class LengthCorrelation(NamedTuple):
    """Spearman's correlation of reward and length.

    Args:
        overall: Over all responses; mixes differences between prompts with those between responses.
        within_prompt: Mean over prompts of the correlation among a prompt's responses.
        undefined: Prompts left out of `within_prompt` (one response, or reward or length constant).
    """

    overall: Estimate
    within_prompt: Estimate
    undefined: int


class LengthAccuracy(NamedTuple):
    """Pair accuracy where length cannot help, helps, or misleads.

    Args:
        longer_wins: Accuracy of the rule "the longer response is better"; equal lengths count one half.
        over_longer_wins: The reward's accuracy minus that of the rule, on the same pairs.
        matched: Accuracy on pairs whose lengths differ by at most `tolerance` of the longer one.
        chosen_shorter: Accuracy on pairs whose chosen response is strictly shorter.
        chosen_longer: Accuracy on pairs whose chosen response is strictly longer.
        tolerance: The rule for "matched".
    """

    longer_wins: Estimate
    over_longer_wins: Estimate
    matched: Estimate
    chosen_shorter: Estimate
    chosen_longer: Estimate
    tolerance: float


def length_correlation(split: ScoredSplit, *, resampling: Resampling) -> LengthCorrelation:
    """Rank correlation of reward and length, over everything and inside prompts."""

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples 1"]:
        return weighted_spearman(split.reward, split.length, counts[:, split.prompt])[:, None]

    within = spearman_within(split.reward, split.length, split.prompt)
    return LengthCorrelation(
        bootstrap(statistic, split.prompts, resampling=resampling)[0],
        mean(within, resampling=resampling),
        split.prompts - int(np.count_nonzero(np.isfinite(within))),
    )


def length_accuracy(split: ScoredSplit, *, resampling: Resampling, tolerance: float = 0.1) -> LengthAccuracy:
    """Accuracy of the longer-wins rule, and the reward's accuracy by what length says of a pair."""
    chosen, rejected = split.length[split.pairs[:, 0]], split.length[split.pairs[:, 1]]
    won = (split.margin > 0).astype(np.float64)
    rule = np.where(chosen == rejected, 0.5, chosen > rejected)
    matched = np.abs(chosen - rejected) <= tolerance * np.maximum(chosen, rejected)
    cells = np.stack([matched, chosen < rejected, chosen > rejected], axis=1).astype(np.float64)
    prompt = split.prompt[split.pairs[:, 0]]
    pairs = sum_by(np.ones_like(won), prompt, split.prompts)
    won_in, held_in = (sum_by(table, prompt, split.prompts) for table in (cells * won[:, None], cells))
    against = sum_by(np.stack([rule, won - rule], axis=1), prompt, split.prompts)
    baseline, over = ratios(against, np.repeat(pairs, 2, axis=1), resampling=resampling)
    same, shorter, longer = proportions(won_in, held_in, resampling=resampling)
    return LengthAccuracy(baseline, over, same, shorter, longer, tolerance)
