"""What training leaves out: every row and response that is dropped has a reason and is listed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueup.data.pairs import has_labels, judgements_of, pairs_of
from trueup.data.rowfile import Problem
from trueup.data.rows import Origin, Prompt, Response, Row
from trueup.files import atomic_write

TextPair = tuple[Prompt, str, str]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row, or one response of a row, that is not used.

    Args:
        reason: Why; the same words for the same reason. Reasons for single responses begin with "response".
        origin: Where the row was read.
        id: The row's name, or None where no row came of the record.
        detail: What was seen there.
    """

    reason: str
    origin: Origin
    id: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to train on, and an account of the others.

    Args:
        kept: Usable rows, in order.
        dropped: What is not used, in order.
    """

    kept: tuple[Row, ...]
    dropped: tuple[Dropped, ...]

    def summary(self) -> dict[str, int]:
        """How much each reason took, the largest first."""
        return dict(Counter(one.reason for one in self.dropped).most_common())

    def write(self, path: str | Path) -> None:
        """Write the list of dropped rows, one JSON object a line, whole or not at all."""
        with atomic_write(path) as handle:
            for one in self.dropped:
                record = {
                    "reason": one.reason,
                    "file": one.origin.file,
                    "row": one.origin.row,
                    "id": one.id,
                    "detail": one.detail,
                }
                handle.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def select(
    rows: Iterable[Row],
    *,
    problems: Sequence[Problem] = (),
    drop_empty: bool = False,
    drop_duplicates: bool = False,
    drop_contradictory: bool = False,
) -> Selection:
    """Keep the rows that state a preference.

    Always dropped: rows with a single response, with identical responses, without labels and scores, and with
    nothing but ties. A text that occurs twice among a row's responses is kept once, or not at all where its labels
    contradict each other.

    Args:
        rows: What was read.
        problems: Records that reading could not use; they are listed first.
        drop_empty: Also drop responses without text.
        drop_duplicates: Also drop rows that repeat an earlier row's prompt, texts and judgements.
        drop_contradictory: Also drop rows all of whose pairs are stated the other way round elsewhere.
    """
    dropped = [Dropped(one.reason, one.origin, None, one.detail) for one in problems]
    kept: list[Row] = []
    for row in rows:
        cleaned, removed = _clean(row, drop_empty=drop_empty)
        unusable = _reason_against(cleaned, row, removed)
        dropped += [unusable] if unusable else removed
        kept += [] if unusable else [cleaned]
    for wanted, split in ((drop_duplicates, _without_duplicates), (drop_contradictory, _without_contradictory)):
        if wanted:
            kept, further = split(kept)
            dropped += further
    return Selection(tuple(kept), tuple(dropped))


def _clean(row: Row, *, drop_empty: bool) -> tuple[Row, list[Dropped]]:
    """Remove single responses that cannot be used."""
    labels: defaultdict[str, set[bool]] = defaultdict(set)
    for one in row.responses:
        if one.label is not None:
            labels[one.text].add(one.label)
    kept: list[Response] = []
    removed: list[Dropped] = []
    seen: set[str] = set()
    for number, one in enumerate(row.responses, start=1):
        if drop_empty and not one.text.strip():
            removed.append(_dropped("response empty", row, f"response {number} of {len(row.responses)}"))
        elif one.text in seen or len(labels[one.text]) > 1:
            removed.append(_dropped("response repeated", row, f"response {number} of {len(row.responses)}"))
        else:
            kept.append(one)
        seen.add(one.text)
    return (replace(row, responses=tuple(kept)) if removed else row), removed


def _reason_against(cleaned: Row, row: Row, removed: list[Dropped]) -> Dropped | None:
    """Why a row cannot be trained on, or None."""
    if len(row.responses) == 1:
        return _dropped("single response", row, "a preference needs at least two")
    if len(cleaned.responses) < 2:
        repeated = any(one.reason == "response repeated" for one in removed)
        reason = "identical responses" if repeated else "empty responses"
        return _dropped(reason, row, f"{len(cleaned.responses)} of {len(row.responses)} responses are usable")
    judged = judgements_of(cleaned)
    if len(judged) < 2:
        return _dropped("no preference", row, f"{len(judged)} of {len(cleaned.responses)} responses are judged")
    if len(set(judged.values())) > 1:
        return None
    if has_labels(cleaned):
        return _dropped("no preference", row, "all labels are equal")
    return _dropped("tie", row, f"all scores are {next(iter(judged.values())):g}")


def _without_duplicates(rows: list[Row]) -> tuple[list[Row], list[Dropped]]:
    first: dict[tuple[Prompt, tuple[tuple[str, float], ...]], Row] = {}
    kept, dropped = [], []
    for row in rows:
        judged = judgements_of(row)
        key = row.prompt, tuple(sorted((row.responses[index].text, value) for index, value in judged.items()))
        if key in first:
            dropped.append(_dropped("duplicate row", row, f"the same as {first[key].origin}"))
        else:
            first[key] = row
            kept.append(row)
    return kept, dropped


def _without_contradictory(rows: list[Row]) -> tuple[list[Row], list[Dropped]]:
    where = {pair: row.origin for row in rows for pair in text_pairs(row)}
    kept, dropped = [], []
    for row in rows:
        opposite = [where.get((prompt, worse, better)) for prompt, better, worse in text_pairs(row)]
        if opposite and all(opposite):
            dropped.append(_dropped("contradictory row", row, f"stated the other way round at {opposite[0]}"))
        else:
            kept.append(row)
    return kept, dropped


def text_pairs(row: Row) -> list[TextPair]:
    """All pairs of a row as (prompt, chosen text, rejected text), without pairs of equal texts."""
    texts = [one.text for one in row.responses]
    named = [(row.prompt, texts[pair.chosen], texts[pair.rejected]) for pair in pairs_of(row)]
    return [pair for pair in named if pair[1] != pair[2]]


def _dropped(reason: str, row: Row, detail: str) -> Dropped:
    return Dropped(reason, row.origin, row.id, detail)
