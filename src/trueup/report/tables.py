"""Tables in Markdown, and estimates as they stand in them: `0.12 [0.05, 0.19]`."""

import math
import re
from collections.abc import Sequence

from trueup.measure.scored import Estimate
from trueup.report.text import Cell, Style, number, printable, shown

_ESCAPED = re.compile(r"\\(.)")


def with_interval(estimate: Estimate, style: Style = "number", *, digits: int = 2) -> str:
    """An estimate and its interval in brackets; an infinite end is `∞`, and no interval is no bracket."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return _end(estimate.value, style, digits=digits)
    value, low, high = (_end(each, style, digits=digits) for each in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _end(value: float, style: Style, *, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "\u2212∞"
    return number(value, style, digits=digits)


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, style: Style = "number", digits: int = 2
) -> str:
    """A table whose text columns are flush left and whose columns of numbers are flush right.

    Args:
        header: Name of each column.
        rows: Cells: texts, numbers, or estimates, which are written with their intervals.
        style: How numbers and estimates are written.
        digits: Digits after the point.

    Raises:
        ValueError: A row is not as long as the header.
    """
    words = [[cell_text(_words(cell, style, digits=digits)) for cell in row] for row in rows]
    if any(len(row) != len(header) for row in words):
        raise ValueError(f"rows must have {len(header)} cells, got {sorted({len(row) for row in words})}")
    texts = [any(isinstance(row[k], str) for row in rows) or not rows for k in range(len(header))]
    rules = ["---" if text else "---:" for text in texts]
    return "\n".join(table_line(line) for line in ([cell_text(name) for name in header], rules, *words))


def _words(cell: Cell, style: Style, *, digits: int) -> str:
    if isinstance(cell, Estimate):
        return with_interval(cell, style, digits=digits)
    return str(cell) if isinstance(cell, int) else shown(cell, style, digits=digits).value


def table_line(cells: Sequence[str]) -> str:
    """One line of a table, from cells that are escaped."""
    return f"| {' | '.join(cells)} |"


def cell_text(text: str) -> str:
    r"""Text as it may stand in one cell: `\` and `|` are escaped, a line break is `<br>`."""
    escaped = printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<br>", "\\<br>")
    return escaped.replace("\n", "<br>")


def read_cells(line: str) -> list[str]:
    """The texts of one line of a table, as they were before `cell_text`."""
    inner = line.strip().removeprefix("|").removesuffix("|")
    # an escaped character is one unit, so that an escaped bar ends no cell
    cells = [""]
    for part in re.findall(r"\\.|<br>|.", inner):
        if part == "|":
            cells.append("")
        else:
            cells[-1] += "\n" if part == "<br>" else _ESCAPED.sub(r"\1", part)
    return [cell.strip(" ") for cell in cells]
