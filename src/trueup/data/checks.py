"""The data report: what preference data hold, and what is wrong with them, before any training."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trueup.data.check_counts import Finding, find_overlap, find_problems, find_truncated, longer_wins
from trueup.data.check_text import render_report
from trueup.data.pairs import pairs_of
from trueup.data.rowfile import RowFile
from trueup.data.rows import Row, prompt_text
from trueup.errors import DataError, RecipeError

QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerWins:
    """How far length alone explains the preferences.

    Args:
        share: Share of the pairs of unequal length in which the longer response is chosen; None without such pairs.
        n: Number of pairs of unequal length.
        equal: Number of pairs whose responses are equally long.
    """

    share: float | None
    n: int
    equal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What a source holds.

    Args:
        source: What was read.
        format: The format's name.
        fingerprint: SHA-256 of the rows.
        rows: Number of usable rows.
        responses: Number of responses.
        pairs: Number of pairs, all of each row.
        unit: What lengths are measured in: "tokens" or "characters".
        total_length: Sum over rows of the prompt, once, and all responses.
        prompt_lengths: Mean and quantiles over rows.
        response_lengths: Mean and quantiles over responses.
        max_length: Longest branch that was asked about.
        longer_wins: How far length alone explains the preferences.
        labels: Responses by label: preferred, not preferred, unlabelled.
        scored: Number of responses with a score.
        sources: Number of responses by source; responses without one are left out.
        subsets: Number of rows by subset.
        ignored: Columns that are not used.
        blank_lines: Blank lines that were skipped.
        findings: Everything worth knowing, with the rows concerned.
    """

    source: str
    format: str
    fingerprint: str
    rows: int
    responses: int
    pairs: int
    unit: str
    total_length: int
    prompt_lengths: Mapping[str, float]
    response_lengths: Mapping[str, float]
    max_length: int | None
    longer_wins: LongerWins
    labels: Mapping[str, int]
    scored: int
    sources: Mapping[str, int]
    subsets: Mapping[str, int]
    ignored: tuple[str, ...]
    blank_lines: int
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Those findings that strict checks refuse."""
        return tuple(one for one in self.findings if one.strict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        content = asdict(self)
        content["ignored"] = list(self.ignored)
        content["findings"] = [
            {
                "kind": one.kind,
                "count": one.count,
                "unit": one.unit,
                "strict": one.strict,
                "places": [str(place) for place in one.places],
            }
            for one in self.findings
        ]
        return content

    def render(self) -> str:
        """The report as a plain-text table."""
        return render_report(self.to_dict())

    def raise_if_strict(self) -> None:
        """Turn problems into an error.

        Raises:
            DataError: There is at least one problem.
        """
        if self.problems:
            found = "; ".join(map(str, self.problems))
            raise DataError(found, file=self.source, cure="mend these rows, or check without strictness")


def check_rows(
    file: RowFile,
    *,
    other: RowFile | None = None,
    lengths: Callable[[Row], list[int]] | None = None,
    max_length: int | None = None,
) -> DataReport:
    """Examine what was read.

    Args:
        file: What was read.
        other: Another source whose prompts should not occur here, such as the test data of this training data.
        lengths: Gives K + 1 lengths of a row in tokens: of the prompt, then of each response. Characters are counted
            where it is None.
        max_length: Report branches (prompt and response) that are longer, in the same unit.
    """
    if max_length is not None and max_length < 1:
        raise RecipeError(f"max_length must be at least 1, got {max_length}")
    rows = file.rows
    measured = [_measure(row, lengths) for row in rows]
    longer, shorter, equal = longer_wins(rows, measured)
    findings = find_problems(rows, file.problems)
    if max_length is not None:
        findings.append(find_truncated(rows, measured, max_length))
    if other is not None:
        findings.append(find_overlap(rows, other.rows))
    responses = [response for row in rows for response in row.responses]
    return DataReport(
        source=file.source,
        format=file.format,
        fingerprint=file.fingerprint,
        rows=len(rows),
        responses=len(responses),
        pairs=sum(len(pairs_of(row)) for row in rows),
        unit="characters" if lengths is None else "tokens",
        total_length=sum(sum(length) for length in measured),
        prompt_lengths=_spread([length[0] for length in measured]),
        response_lengths=_spread([one for length in measured for one in length[1:]]),
        max_length=max_length,
        longer_wins=LongerWins(
            share=longer / (longer + shorter) if longer + shorter else None, n=longer + shorter, equal=equal
        ),
        labels=_labels([response.label for response in responses]),
        scored=sum(response.score is not None for response in responses),
        sources=dict(Counter(one.source for one in responses if one.source is not None).most_common()),
        subsets=dict(Counter(row.subset for row in rows if row.subset is not None).most_common()),
        ignored=file.ignored,
        blank_lines=file.blank_lines,
        findings=tuple(one for one in findings if one.count),
    )


def _measure(row: Row, lengths: Callable[[Row], list[int]] | None) -> list[int]:
    if lengths is None:
        return [len(prompt_text(row.prompt)), *(len(response.text) for response in row.responses)]
    measured = lengths(row)
    if len(measured) != len(row.responses) + 1:
        raise ValueError(f"lengths must give {len(row.responses) + 1} numbers for {row.origin}, got {len(measured)}")
    return measured


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Mean and quantiles; empty without values."""
    if not values:
        return {}
    found = np.quantile(values, list(QUANTILES.values()))
    return {"mean": float(np.mean(values)), **dict(zip(QUANTILES, map(float, found), strict=True))}


def _labels(labels: Sequence[bool | None]) -> dict[str, int]:
    counts = Counter(labels)
    return {"preferred": counts[True], "not preferred": counts[False], "unlabelled": counts[None]}
