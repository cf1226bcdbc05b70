"""What reading a source gives: rows, and an account of everything that did not become one."""

from collections import Counter
from dataclasses import dataclass

from trueup.data.rows import Origin, Row


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that could be read but not used.

    Args:
        reason: Which kind of problem; the same words for the same kind.
        origin: Where the record was read.
        detail: What was seen there.
    """

    reason: str
    origin: Origin
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFile:
    """The rows of one source.

    Args:
        rows: All usable rows, in the source's order.
        format: Name of the format, as `read_rows` takes it.
        problems: Records that were read but could not be used.
        fingerprint: SHA-256 of the rows' content, in hexadecimal.
        source: What was read.
        ignored: Names of columns that no row makes use of.
        blank_lines: How many blank lines were skipped.
    """

    rows: tuple[Row, ...]
    format: str
    problems: tuple[Problem, ...]
    fingerprint: str
    source: str
    ignored: tuple[str, ...] = ()
    blank_lines: int = 0

    def problem_counts(self) -> dict[str, int]:
        """How many records each reason took."""
        return dict(Counter(problem.reason for problem in self.problems))
