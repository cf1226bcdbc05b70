"""The four over-optimisation scenarios: rewards on prompts and writers that training has not seen.

Rows with several responses of named sources (models or writers) are cut along both axes:

    split              prompts             responses
    -----------------  ------------------  ------------------------------------------
    train              training            two of the training sources, one labelled pair
    in_domain          training            the others of the training sources
    prompt_disjoint    held out            training sources
    response_disjoint  training            held-out sources
    mutual_disjoint    held out            held-out sources

**Source**: Hong, Lee et al. (2025), On the Robustness of Reward Models for Language Model Alignment, arXiv 2505.07271.
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
    train_sources, held_out = _assign_sources(_sources(given), held_out_sources, seed)
    usable, removed = _usable(given, coinciding)
    is_held_out = [content_draw("prompt", seed, normalized_prompt(row.prompt)) < held_out_prompts for row in usable]
    known = [row for row, out in zip(usable, is_held_out, strict=True) if not out]
    unseen = [row for row, out in zip(usable, is_held_out, strict=True) if out]
    side = _Side(frozenset(train_sources), seed=seed, limit=responses_per_prompt)
    other_side = _Side(frozenset(held_out), seed=seed, limit=responses_per_prompt)
    train, in_domain, removed_training = _training(known, side)
    trained = {row.prompt for row in train}
    known = [row for row in known if row.prompt in trained]
    seen = frozenset(one.text for row in train for one in row.responses)
    tests = {
        "prompt_disjoint": _test(unseen, side, name="prompt_disjoint"),
        "response_disjoint": _test(known, other_side, name="response_disjoint", seen=seen),
        "mutual_disjoint": _test(unseen, other_side, name="mutual_disjoint", seen=seen),
    }
    shifts = Shifts(
        train=tuple(train),
        in_domain=tuple(in_domain),
        prompt_disjoint=tuple(tests["prompt_disjoint"][0]),
        response_disjoint=tuple(tests["response_disjoint"][0]),
        mutual_disjoint=tuple(tests["mutual_disjoint"][0]),
        train_sources=train_sources,
        held_out_sources=held_out,
        removed=tuple(one for part in (removed, removed_training, *(t[1] for t in tests.values())) for one in part),
    )
    _require_splits(shifts, given[0].origin.file)
    _assert_disjoint(shifts)
    return shifts


@dataclass(frozen=True, slots=True)
class _Side:
    """The training or the held-out sources, and how responses are taken from them."""

    sources: frozenset[str]
    seed: int
    limit: int | None

    def responses(self, row: Row) -> list[Response]:
        """Responses to a prompt from this side's sources, in an order fixed by content, no more than the limit."""
        prompt = normalized_prompt(row.prompt)
        mine = [one for one in row.responses if one.source in self.sources]
        return sorted(mine, key=lambda one: content_hash("response", self.seed, prompt, one.text))[: self.limit]


def _check_settings(held_out_prompts: float, responses_per_prompt: int | None, coinciding: str) -> None:
    if not 0.0 < held_out_prompts < 1.0:
        raise RecipeError(f"held_out_prompts must lie in (0, 1), got {held_out_prompts}")
    if responses_per_prompt is not None and responses_per_prompt < 4:
        raise RecipeError(
            f"responses_per_prompt must be at least 4, two for train and two for in_domain, got {responses_per_prompt}"
        )
    if coinciding not in get_args(Coinciding):
        raise RecipeError(f"coinciding must be one of {', '.join(get_args(Coinciding))}, got {coinciding}")


def _sources(rows: Sequence[Row]) -> tuple[str, ...]:
    """All source names; every response must have one, and a score."""
    if not rows:
        raise DataError("zero usable rows", cure="give rows with several scored responses")
    for row in rows:
        for number, one in enumerate(row.responses):
            missing = "source" if one.source is None else "score" if one.score is None else None
            if missing:
                raise DataError(
                    "the field is missing",
                    file=row.origin.file,
                    row=row.origin.row,
                    field=f"responses[{number}].{missing}",
                    expected="a score and a source with every response",
                    cure="the four scenarios need to know who wrote each response and how good it is",
                )
    return tuple(sorted({one.source for row in rows for one in row.responses if one.source is not None}))


def _assign_sources(
    names: Sequence[str], held_out: Sequence[str] | int, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of training and held-out sources."""
    if isinstance(held_out, int):
        chosen = set(sorted(names, key=lambda name: content_hash("source", seed, name))[: max(held_out, 0)])
    else:
        chosen = {held_out} if isinstance(held_out, str) else set(held_out)
    unknown = sorted(chosen - set(names))
    if unknown:
        raise RecipeError(f"held_out_sources names {', '.join(unknown)}, but the sources are {', '.join(names)}")
    training = tuple(name for name in names if name not in chosen)
    for kind, count in (("training", len(training)), ("held-out", len(chosen))):
        if count < 2:
            raise RecipeError(
                f"held_out_sources must leave at least two {kind} sources, got {count}; there are {', '.join(names)}"
            )
    return training, tuple(name for name in names if name in chosen)


def _usable(rows: Iterable[Row], coinciding: Coinciding) -> tuple[list[Row], list[Dropped]]:
    """Rows with prompts of their own and responses that differ."""
    removed: list[Dropped] = []
    distinct: list[Row] = []
    for row in rows:
        seen: dict[str, Response] = {one.text: one for one in reversed(row.responses)}
        if len(seen) < len(row.responses):
            detail = f"{len(row.responses) - len(seen)} of {len(row.responses)} repeat another response"
            reason = "coinciding responses" if coinciding == "row" else "response coincides with another"
            removed.append(Dropped(reason, row.origin, row.id, detail))
        if len(seen) == len(row.responses):
            distinct.append(row)
        elif coinciding == "response":
            distinct.append(replace(row, responses=tuple(one for one in row.responses if seen[one.text] is one)))
    first: dict[str, Row] = {}
    for row in sorted(distinct, key=_content):
        first.setdefault(normalized_prompt(row.prompt), row)
    kept = [row for row in distinct if first[normalized_prompt(row.prompt)] is row]
    for row in distinct:
        same = first[normalized_prompt(row.prompt)]
        if same is not row:
            removed.append(Dropped("duplicate prompt", row.origin, row.id, f"the prompt of {same.origin}"))
    return kept, removed


def _content(row: Row) -> int:
    return content_hash(*(part for one in row.responses for part in (one.source or "", one.text)))


def _training(rows: Iterable[Row], side: _Side) -> tuple[list[Row], list[Row], list[Dropped]]:
    """A labelled pair for each prompt, and the other responses to the same prompts."""
    train, in_domain, removed = [], [], []
    for row in rows:
        responses = side.responses(row)
        pair = next(([responses[0], one] for one in responses[1:] if one.score != responses[0].score), None)
        if pair is None:
            reason = "tie" if len(responses) > 1 else "too few responses of training sources"
            removed.append(Dropped(reason, row.origin, row.id, f"{len(responses)} responses of training sources"))
            continue
        pair.sort(key=lambda one: -(one.score or 0.0))
        labelled = tuple(replace(one, label=label) for one, label in zip(pair, (True, False), strict=True))
        train.append(replace(row, responses=labelled))
        others = tuple(one for one in row.responses if one in responses and one not in pair)
        if len(others) > 1:
            in_domain.append(replace(row, responses=others))
        else:
            removed.append(Dropped("too few responses for in_domain", row.origin, row.id, f"{len(others)} left"))
    return train, in_domain, removed


def _test(
    rows: Iterable[Row], side: _Side, *, name: str, seen: frozenset[str] = frozenset()
) -> tuple[list[Row], list[Dropped]]:
    """One side's responses, without those whose very text was trained on."""
    kept, removed = [], []
    for row in rows:
        wanted = side.responses(row)
        new = tuple(one for one in row.responses if one in wanted and one.text not in seen)
        if len(new) < len(wanted):
            detail = f"{len(wanted) - len(new)} of {len(wanted)} responses in {name}"
            removed.append(Dropped("response text seen in training", row.origin, row.id, detail))
        if len(new) > 1:
            kept.append(replace(row, responses=new))
        else:
            removed.append(Dropped(f"too few responses for {name}", row.origin, row.id, f"{len(new)} left"))
    return kept, removed


def _require_splits(shifts: Shifts, file: str) -> None:
    for name, rows in shifts.splits().items():
        if not rows:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in shifts.removed_counts().items())
            raise DataError(
                f"split {name} would be empty ({reasons or 'too few prompts'})",
                file=file,
                expected="several prompts with at least four responses of training and two of held-out sources",
                cure="give more rows, or hold out other sources or another share of prompts",
            )


def _assert_disjoint(shifts: Shifts) -> None:
    """Check what the splits promise, whatever the code above does."""
    prompts = {name: {normalized_prompt(row.prompt) for row in rows} for name, rows in shifts.splits().items()}
    texts = {name: {one.text for row in rows for one in row.responses} for name, rows in shifts.splits().items()}
    sources = {name: {one.source for row in rows for one in row.responses} for name, rows in shifts.splits().items()}
    trained = {(row.prompt, one.text) for row in shifts.train for one in row.responses}
    promises = {
        "in_domain repeats no trained response": not any(
            (row.prompt, one.text) in trained for row in shifts.in_domain for one in row.responses
        ),
        "in_domain has trained prompts": prompts["in_domain"] <= prompts["train"],
        "response_disjoint has trained prompts": prompts["response_disjoint"] <= prompts["train"],
    }
    for name in ("prompt_disjoint", "mutual_disjoint"):
        promises[f"{name} has new prompts"] = not prompts[name] & prompts["train"]
    for name in ("response_disjoint", "mutual_disjoint"):
        promises[f"{name} has new texts"] = not texts[name] & texts["train"]
        promises[f"{name} has new sources"] = not sources[name] & sources["train"]
    broken = [promise for promise, holds in promises.items() if not holds]
    if broken:
        raise AssertionError(f"the splits overlap, please report this: {'; '.join(broken)}")
