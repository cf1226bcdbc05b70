"""The four over-optimisation scenarios: is a reward model sound off the prompts and off the writers it was trained on?

Rows with several responses of named sources (models or writers) are cut along both axes:

    =================  ==================  ==========================================
    split              prompts             responses
    =================  ==================  ==========================================
    train              training            two of the training sources, one labelled pair
    in_domain          training            the others of the training sources
    prompt_disjoint    held out            training sources
    response_disjoint  training            held-out sources
    mutual_disjoint    held out            held-out sources
    =================  ==================  ==========================================

**Source**: Hong, Thorne et al., On the Robustness of Reward Models for Language Model Alignment, arXiv 2505.07271.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from trueup.data.fingerprint import content_draw, content_hash, normalized_prompt
from trueup.data.pairs import pairs_of
from trueup.data.rows import Response, Row
from trueup.data.selection import Dropped
from trueup.errors import DataError, RecipeError

Coinciding = Literal["row", "response"]
SPLITS = ("train", "in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """The five splits and how they came about.

    Args:
        train: One labelled pair for each training prompt.
        in_domain: Training prompts, other responses of training sources.
        prompt_disjoint: Held-out prompts, training sources.
        response_disjoint: Training prompts, held-out sources.
        mutual_disjoint: Held-out prompts, held-out sources.
        train_sources: Names of the training sources.
        held_out_sources: Names of the others.
        removed: Every row and response that is in no split although it might have been, with the reason.
    """

    train: tuple[Row, ...]
    in_domain: tuple[Row, ...]
    prompt_disjoint: tuple[Row, ...]
    response_disjoint: tuple[Row, ...]
    mutual_disjoint: tuple[Row, ...]
    train_sources: tuple[str, ...]
    held_out_sources: tuple[str, ...]
    removed: tuple[Dropped, ...]

    def splits(self) -> dict[str, tuple[Row, ...]]:
        """The five splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def sizes(self) -> dict[str, dict[str, int]]:
        """Prompts, responses and pairs of each split."""
        return {
            name: {
                "prompts": len(rows),
                "responses": sum(len(row.responses) for row in rows),
                "pairs": sum(len(pairs_of(row)) for row in rows),
            }
            for name, rows in self.splits().items()
        }

    def removed_counts(self) -> dict[str, int]:
        """How much each reason took, the largest first."""
        return dict(Counter(one.reason for one in self.removed).most_common())


def four_shifts(
    rows: Iterable[Row],
    *,
    held_out_prompts: float = 0.2,
    held_out_sources: Sequence[str] | int,
    responses_per_prompt: int | None = None,
    coinciding: Coinciding = "row",
    seed: int,
) -> Shifts:
    """Cut rows into training data and the four scenarios.

    Which prompts are held out, and which two responses are trained on, is decided by SHA-256 of content and seed. So
    it does not depend on the order of rows, and for prompts not on the other rows either.

    Args:
        rows: Rows whose responses all have a score and a source.
        held_out_prompts: Share of prompts to hold out, in (0, 1); by hash, so sizes vary a little.
        held_out_sources: Names of the sources to hold out, or how many.
        responses_per_prompt: Use no more than this many responses of each side's sources for a prompt (at least 4).
        coinciding: Where two responses to a prompt coincide, remove the row, as the paper does, or the later
            response.
        seed: Chooses prompts, sources and pairs.

    Raises:
        DataError: Scores or sources are missing, or a split would be empty.
        RecipeError: A setting makes no sense for these data.
    """
    _check_settings(held_out_prompts, responses_per_prompt, coinciding)
    given = tuple(rows)
    train_sources, others = _assign_sources(_sources(given), held_out_sources, seed)
    cut = _Cut(seed, responses_per_prompt, frozenset(train_sources), frozenset(others))
    usable = cut.usable(given, coinciding)
    known = [row for row in usable if content_draw("prompt", seed, normalized_prompt(row.prompt)) >= held_out_prompts]
    known_names = {row.id for row in known}
    unseen = [row for row in usable if row.id not in known_names]
    train, in_domain = cut.training(known)
    seen_texts = {one.text for row in train for one in row.responses}
    shifts = Shifts(
        train=train,
        in_domain=in_domain,
        prompt_disjoint=cut.side(unseen, cut.train_sources, "prompt_disjoint"),
        response_disjoint=cut.side(cut.unseen_texts(known, seen_texts), cut.held_out, "response_disjoint"),
        mutual_disjoint=cut.side(cut.unseen_texts(unseen, seen_texts), cut.held_out, "mutual_disjoint"),
        train_sources=train_sources,
        held_out_sources=others,
        removed=tuple(cut.removed),
    )
    _check_result(shifts, given[0].origin.file)
    return shifts
