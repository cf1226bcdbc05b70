"""Which response of a row is preferred to which: pairs and rankings from labels or scores.

Labels win over scores where a row has both, because a score may then be a gold measure that training must
not see.
"""

from typing import Literal, get_args

from trueup.data.rows import Pair, Row
from trueup.errors import RecipeError

PairRule = Literal["all", "best_versus_worst"]


def pairs_of(row: Row, *, rule: PairRule = "all", min_gap: float = 0.0) -> list[Pair]:
    """Pairs (chosen, rejected) of response indices.

    With labels, each preferred response is paired with each other one; with scores, each response with every
    one that scores lower. Responses without a judgement are in no pair, and ties give none (see `ties_of`).

    Args:
        row: The row.
        rule: "all" pairs, or only the best against the worst; the first of each where there are several.
        min_gap: With scores, pairs must differ by more than this, in the scores' unit.
    """
    if rule not in get_args(PairRule):
        raise RecipeError(f"rule must be one of {', '.join(get_args(PairRule))}, got {rule}")
    if min_gap < 0:
        raise RecipeError(f"min_gap must not be negative, got {min_gap}")
    judged = judgements_of(row)
    gap = min_gap if not has_labels(row) else 0.0
    order = sorted(judged, key=lambda index: -judged[index])
    if rule == "best_versus_worst":
        best, worst = order[:1], [index for index in order if judged[index] == judged[order[-1]]][:1]
        candidates = [Pair(high, low) for high in best for low in worst]
    else:
        candidates = [Pair(high, low) for high in order for low in order]
    return [pair for pair in candidates if judged[pair.chosen] - judged[pair.rejected] > gap]


def ranking_of(row: Row) -> tuple[tuple[int, ...], ...]:
    """Response indices from best to worst; ties share a group, responses without a judgement are left out."""
    judged = judgements_of(row)
    levels = sorted(set(judged.values()), reverse=True)
    return tuple(tuple(index for index in judged if judged[index] == level) for level in levels)


def ties_of(row: Row) -> int:
    """Number of unordered pairs of responses with equal scores; 0 where labels decide."""
    if has_labels(row):
        return 0
    return sum(len(group) * (len(group) - 1) // 2 for group in ranking_of(row))


def has_labels(row: Row) -> bool:
    """Whether any response of the row is labelled, so that labels decide and not scores."""
    return any(response.label is not None for response in row.responses)


def judgements_of(row: Row) -> dict[int, float]:
    """What decides between the responses, by index: labels as 1 and 0 if there are any, else scores."""
    if has_labels(row):
        return {index: float(one.label) for index, one in enumerate(row.responses) if one.label is not None}
    return {index: one.score for index, one in enumerate(row.responses) if one.score is not None}
