"""What can be wrong with preference data, each counted by one small function."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trueup.data.fingerprint import normalized_prompt
from trueup.data.pairs import has_labels, judgements_of, pairs_of, ties_of
from trueup.data.rowfile import Problem
from trueup.data.rows import Origin, Prompt, Row
from trueup.data.selection import text_pairs

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that a data report mentions.

    Args:
        kind: What it is, such as "empty responses".
        count: How many.
        unit: Of what: records, rows, responses, pairs or branches.
        places: Where the first few of them are.
        strict: Whether it is a problem that strict checks refuse.
    """

    kind: str
    count: int
    unit: str
    places: tuple[Origin, ...]
    strict: bool = True

    def __str__(self) -> str:
        rows = ", ".join(str(place.row) for place in self.places)
        return f"{self.kind}: {self.count} {self.unit} (rows {rows}{', ...' if self.count > len(self.places) else ''})"


def find_problems(rows: Sequence[Row], problems: Sequence[Problem]) -> list[Finding]:
    """All findings that need nothing but the rows, without those that found nothing."""
    by_reason: defaultdict[str, list[Origin]] = defaultdict(list)
    for problem in problems:
        by_reason[problem.reason].append(problem.origin)
    found = [
        *(_finding(f"unusable: {reason}", "records", Counter(at)) for reason, at in by_reason.items()),
        _finding("empty responses", "responses", _per_row(rows, _empty)),
        _finding("responses of white space only", "responses", _per_row(rows, _blank)),
        _finding("identical responses in a row", "responses", _per_row(rows, _identical)),
        _finding("no preference stated", "rows", _per_row(rows, _unjudged)),
        _finding("missing scores", "responses", _per_row(rows, missing_scores)),
        _finding("tied scores", "pairs", _per_row(rows, ties_of), strict=False),
        _finding("duplicated rows", "rows", _duplicated_rows(rows)),
        *_pair_findings(rows),
    ]
    return [one for one in found if one.count]


def find_truncated(rows: Sequence[Row], lengths: Sequence[Sequence[int]], max_length: int) -> Finding:
    """Branches, prompt and response together, longer than `max_length`; `lengths` holds prompt, then responses."""
    too_long: dict[Origin, int] = {}
    for row, (prompt, *responses) in zip(rows, lengths, strict=True):
        count = sum(prompt + response > max_length for response in responses)
        too_long[row.origin] = too_long.get(row.origin, 0) + count
    return _finding(f"longer than {max_length}", "branches", too_long)


def find_overlap(rows: Sequence[Row], others: Iterable[Row]) -> Finding:
    """Rows whose prompt, in lower case and with white space collapsed, is also in other rows."""
    known = {normalized_prompt(row.prompt) for row in others}
    return _finding("prompts shared with the other file", "rows", _per_row(rows, lambda row: _shared(row, known)))


def missing_scores(row: Row) -> int:
    """Responses without a score in a row that has labels on none and scores on some."""
    scored = sum(one.score is not None for one in row.responses)
    return 0 if has_labels(row) or scored == 0 else len(row.responses) - scored


def _finding(kind: str, unit: str, where: dict[Origin, int], *, strict: bool = True) -> Finding:
    places = tuple(origin for origin, count in where.items() if count)[:EXAMPLES]
    return Finding(kind, sum(where.values()), unit, places, strict)


def _per_row(rows: Iterable[Row], count: Callable[[Row], int]) -> dict[Origin, int]:
    counts: dict[Origin, int] = {}
    for row in rows:
        if number := count(row):
            counts[row.origin] = counts.get(row.origin, 0) + number
    return counts


def _empty(row: Row) -> int:
    return sum(not one.text for one in row.responses)


def _blank(row: Row) -> int:
    return sum(bool(one.text) and one.text.isspace() for one in row.responses)


def _identical(row: Row) -> int:
    return len(row.responses) - len({one.text for one in row.responses})


def _unjudged(row: Row) -> int:
    return int(len(set(judgements_of(row).values())) < 2)


def _shared(row: Row, known: set[str]) -> int:
    return int(normalized_prompt(row.prompt) in known)


def _duplicated_rows(rows: Iterable[Row]) -> dict[Origin, int]:
    """Rows that repeat an earlier one's prompt, texts and judgements, in whatever order."""
    seen: set[tuple[Prompt, frozenset[tuple[object, int]]]] = set()
    repeated: dict[Origin, int] = {}
    for row in rows:
        key = row.prompt, frozenset(Counter((one.text, one.label, one.score) for one in row.responses).items())
        if key in seen:
            repeated[row.origin] = repeated.get(row.origin, 0) + 1
        seen.add(key)
    return repeated


def _pair_findings(rows: Iterable[Row]) -> tuple[Finding, Finding]:
    """Pairs stated again, and pairs stated both ways round; a pair is its prompt and two texts."""
    numbers: dict[object, int] = {}
    first: dict[tuple[int, int, int], Origin] = {}
    repeated: dict[Origin, int] = {}
    contradicted: dict[Origin, int] = {}
    for row in rows:
        for pair in text_pairs(row):
            prompt, better, worse = (numbers.setdefault(part, len(numbers)) for part in pair)
            if (prompt, better, worse) in first:
                repeated[row.origin] = repeated.get(row.origin, 0) + 1
                continue
            first[prompt, better, worse] = row.origin
            if (prompt, worse, better) in first:
                contradicted[row.origin] = contradicted.get(row.origin, 0) + 1
    return (
        _finding("duplicated pairs", "pairs", repeated),
        _finding("contradictory pairs", "pairs", contradicted),
    )


def longer_wins(rows: Iterable[Row], lengths: Iterable[Sequence[int]]) -> tuple[int, int, int]:
    """Among all pairs: how often the longer response is chosen, the shorter one, and how often both are as long."""
    longer = shorter = equal = 0
    for row, length in zip(rows, lengths, strict=True):
        for pair in pairs_of(row):
            difference = length[1 + pair.chosen] - length[1 + pair.rejected]
            longer, shorter, equal = longer + (difference > 0), shorter + (difference < 0), equal + (difference == 0)
    return longer, shorter, equal
