"""Label noise that depends on content and seed alone."""

from collections.abc import Iterable
from dataclasses import replace

from trueup.data.fingerprint import content_draw, normalized_prompt
from trueup.data.pairs import has_labels
from trueup.data.rows import Row
from trueup.errors import RecipeError


def flip_labels(rows: Iterable[Row], share: float, seed: int) -> list[Row]:
    """Reverse the preferences of about this share of the rows.

    Whether a row is flipped depends on its texts and the seed, not on its place or on other rows: flipping twice
    gives the rows back, and a larger share flips the same rows and more. Labels are inverted; in rows without
    labels the scores change places, so that the best response gets the worst score, and so on.

    Args:
        rows: Rows with labels or scores.
        share: Probability that a row is flipped, in [0, 1].
        seed: Chooses which rows.
    """
    if not 0.0 <= share <= 1.0:
        raise RecipeError(f"share must lie in [0, 1], got {share}")
    return [_reversed(row) if _draw(row, seed) < share else row for row in rows]


def _draw(row: Row, seed: int) -> float:
    texts = sorted(response.text for response in row.responses)
    return content_draw("flip", seed, normalized_prompt(row.prompt), *texts)


def _reversed(row: Row) -> Row:
    if has_labels(row):
        return replace(
            row,
            responses=tuple(one if one.label is None else replace(one, label=not one.label) for one in row.responses),
        )
    ranked = sorted({one.score for one in row.responses if one.score is not None})
    mirrored = dict(zip(ranked, reversed(ranked), strict=True))
    return replace(
        row,
        responses=tuple(one if one.score is None else replace(one, score=mirrored[one.score]) for one in row.responses),
    )
