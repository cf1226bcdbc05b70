"""Scoring of RewardBench 2 from rewards: best of four, and prompts with several right answers (Ties).

**Source** Malik et al. (2025), RewardBench 2: Advancing Reward Model Evaluation, arXiv 2506.01937; the Ties
score as in the public repository allenai/reward-bench.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling, proportions, ratios
from trueup.measure.reward_bench import best_share, one_hot, strata_of
from trueup.measure.scored import Array, Estimate, ScoredSplit

TIES = "Ties"
SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)

TIES_WEIGHTS: dict[str, float] = {
    "tied_accuracy": 0.30,
    "reference_accuracy": 0.30,
    "correctness_preferred": 0.20,
    "correctness_preferred_hard": 0.20,
    "margin": 0.01,
}
"""Weights of the parts of the Ties score; a perfect model gets up to 1.01."""


class RewardBench2(NamedTuple):
    """Scores of RewardBench 2.

    Args:
        subsets: Score of each subset present.
        ties: Parts of the Ties score; empty where the subset is absent.
        overall: Mean of the subsets that are present.
        complete: Whether all subsets are present (otherwise `overall` is not the published figure).
    """

    subsets: dict[str, Estimate]
    ties: dict[str, Estimate]
    overall: Estimate
    complete: bool


class TiesParts(NamedTuple):
    """Contributions to the five parts of the Ties score, in the order of `TIES_WEIGHTS`, a row for each
    question.

    Args:
        values: The contributions, zero where they do not count.
        counts: 1 where the question has what the part needs, else 0.
    """

    values: Float[Array, "questions 5"]
    counts: Float[Array, "questions 5"]


def reward_bench_2(split: ScoredSplit, correct: Bool[Array, " responses"], *, resampling: Resampling) -> RewardBench2:
    """Score RewardBench 2.

    A best-of-4 row scores 1 / m where the right response shares the highest reward with m - 1 others, else 0;
    Ties as in `ties_parts`; overall is the mean of the subsets.

    Args:
        split: `subset` holds RewardBench 2's subset; `ids` of Ties are `ref:NUMBER` and `tied:NUMBER`.
        correct: Which responses are right.
        resampling: Prompts are resampled within each subset; a tied prompt goes with its reference.

    Raises:
        DataError: If a subset or a Ties id is unknown, or no tied prompt has a reference.
    """
    strata = strata_of(split, SUBSETS)
    is_tie = strata == SUBSETS.index(TIES)
    plain = [k for k in range(len(SUBSETS) - 1) if (strata == k).any()]
    ties = ties_parts(split, correct, among=is_tie)
    inside = one_hot(strata[~is_tie], plain)
    share = best_share(split, correct, strict=False)[~is_tie]
    values = _block_diagonal(share[:, None] * inside, ties.values)
    counts = _block_diagonal(inside, ties.counts)
    unit_strata = np.r_[strata[~is_tie], np.full(len(ties.values), SUBSETS.index(TIES))]
    present = [SUBSETS[k] for k in plain] + ([TIES] if is_tie.any() else [])
    rows = np.eye(len(plain) + 1)[: len(present)] @ _block_diagonal(
        np.eye(len(plain)), np.array([[*TIES_WEIGHTS.values()]])
    )
    combination = np.concatenate([rows, rows.mean(axis=0, keepdims=True)])
    *by_subset, overall = proportions(
        values, counts, resampling=resampling, strata=unit_strata, combination=combination
    )
    parts = ratios(ties.values, ties.counts, resampling=resampling) if is_tie.any() else []
    by_part = dict(zip(TIES_WEIGHTS, parts, strict=False))
    return RewardBench2(dict(zip(present, by_subset, strict=True)), by_part, overall, len(present) == len(SUBSETS))


def _block_diagonal(a: Float[Array, "n a"], b: Float[Array, "m b"]) -> Float[Array, "n_and_m a_and_b"]:
    upper = np.concatenate([a, np.zeros((len(a), b.shape[1]))], axis=1)
    lower = np.concatenate([np.zeros((len(b), a.shape[1])), b], axis=1)
    return np.concatenate([upper, lower])


def ties_parts(split: ScoredSplit, correct: Bool[Array, " responses"], *, among: Bool[Array, " prompts"]) -> TiesParts:
    """What each question contributes to the Ties score.

    A question has a reference prompt (one right answer) and a tied prompt (several). For each prompt,
    `gap = min reward(right) - max reward(wrong)`, and `spread = max - min reward(right)`. Then

    - accuracy (of tied and of reference prompts): gap > 0;
    - correctness preferred: gap of the tied prompt > its spread;
    - the same, hard: g > spread, with g the smaller gap of the two prompts;
    - margin: tanh(g / spread - 1), 0 where both g and spread are zero.

    The score is their weighted mean with `TIES_WEIGHTS`. Example: a tied prompt with right rewards 3 and 2.5
    and a best wrong one of 1 has gap 1.5 and spread 0.5; with a reference gap of 1, the parts are 1, 1, 1, 1
    and tanh(1) = 0.7616: score 1.0076.
    """
    numbers, kinds = _questions(split, among=among)
    gap, spread = _gap_and_spread(split, correct)
    gap, spread = gap[among], spread[among]
    tables = np.full((3, int(numbers.max()) + 1 if len(numbers) else 0), np.nan)
    tied_gap, reference_gap, tied_spread = tables
    tied_gap[numbers[kinds]], tied_spread[numbers[kinds]] = gap[kinds], spread[kinds]
    reference_gap[numbers[~kinds]] = gap[~kinds]
    smaller = np.minimum(tied_gap, reference_gap)
    if len(smaller) and np.isnan(smaller).all():
        raise DataError("no Ties question has both prompts", field="id", expected="ref:NUMBER and tied:NUMBER")
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(smaller / tied_spread - 1))
    both = np.isfinite(smaller)
    values = [tied_gap > 0, reference_gap > 0, tied_gap > tied_spread, smaller > tied_spread, margin]
    known = np.stack([np.isfinite(tied_gap), np.isfinite(reference_gap), both, both, both], axis=1)
    return TiesParts(np.where(known, np.stack(values, axis=1), 0.0), known.astype(np.float64))


def _questions(
    split: ScoredSplit, *, among: Bool[Array, " prompts"]
) -> tuple[Int[Array, " ties"], Bool[Array, " ties"]]:
    """Number of each Ties prompt's question, from 0, and whether the prompt is the tied one."""
    wanted = [split.ids[k] if split.ids else "" for k in np.flatnonzero(among)]
    parts = [name.partition(":") for name in wanted]
    for name, (kind, _, number) in zip(wanted, parts, strict=True):
        if kind not in ("ref", "tied") or not number:
            raise DataError(f"Ties row with id {name!r}", field="id", expected="ref:NUMBER or tied:NUMBER")
    numbers = np.unique([number for *_, number in parts], return_inverse=True)[1].astype(np.int64)
    return numbers, np.array([kind == "tied" for kind, *_ in parts], dtype=bool)


def _gap_and_spread(
    split: ScoredSplit, correct: Bool[Array, " responses"]
) -> tuple[Float[Array, " prompts"], Float[Array, " prompts"]]:
    lowest = np.full(split.prompts, np.inf)
    highest, best_wrong = np.full((2, split.prompts), -np.inf)
    np.minimum.at(lowest, split.prompt[correct], split.reward[correct])
    np.maximum.at(highest, split.prompt[correct], split.reward[correct])
    np.maximum.at(best_wrong, split.prompt[~correct], split.reward[~correct])
    return lowest - best_wrong, highest - lowest
