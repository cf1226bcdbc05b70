"""A report page: components in, one self-contained HTML file out.

The page asks for nothing from outside: its styles and figures are inside, it has no scripts, and its content
security policy forbids both. All words that come from users are escaped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trueup.files import write_text
from trueup.report.svg import inline
from trueup.report.text import Cell, Shown, Style, printable, shown

Level = Literal["good", "watch", "bad"]


@dataclass(frozen=True)
class Verdict:
    """One finding in plain words."""

    level: Level
    text: str


@dataclass(frozen=True)
class Findings:
    """The verdict on one subject, such as a model."""

    subject: str
    items: tuple[Verdict, ...]


@dataclass(frozen=True, kw_only=True)
class KeyNumber:
    """One large number of the page's top row."""

    label: str
    value: Cell
    style: Style = "number"
    digits: int = 2
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its reading guide.

    Args:
        svg: The drawing, from `trueup.report.figures`, at the width of a screen.
        narrow: The same drawing at the width of a phone; empty shows the wide one everywhere.
        title: What stands above it.
        shows: What it shows.
        good: What good looks like.
    """

    svg: str
    title: str
    shows: str
    good: str
    narrow: str = ""


@dataclass(frozen=True)
class Column:
    """A table's column: its head, and how its numbers are written."""

    head: str
    style: Style = "text"
    digits: int = 3


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column names the rows; where a cell has no finite value, a note says why."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {place} has {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True)
class Quote:
    """A text of a prompt or a response, printed as it is, with a label above and a note below."""

    label: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Quotes:
    """Texts side by side."""

    items: tuple[Quote, ...]


@dataclass(frozen=True)
class Details:
    """Blocks that stay folded until the reader opens them."""

    summary: str
    blocks: "tuple[Block, ...]"


Block = str | Figure | Table | Quotes | Details


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a bare string is a paragraph."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report.

    Args:
        title: Title of the page.
        lead: One or two sentences below it.
        verdict: Findings by subject.
        numbers: The row of key numbers.
        sections: The body.
        provenance: Short facts: recipe, seeds, versions, data fingerprint.
        recipe: The complete recipe as text; empty prints none.
    """

    title: str
    lead: str
    verdict: tuple[Findings, ...] = ()
    numbers: tuple[KeyNumber, ...] = ()
    sections: tuple[Section, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""


def render(page: Page) -> str:
    """The page as HTML. Equal pages give equal text."""
    return _environment().get_template("page.html.jinja").render(page=page, drawer=_Drawer())


def write_page(page: Page, path: str | Path) -> Path:
    """Render the page and write it wholly or not at all.

    Raises:
        OutputError: The file cannot be written; what was at `path` before is untouched.
    """
    return write_text(path, render(page))


class _Drawer:
    """Counts figures, tables and sections while a page is rendered, so that every id is used once."""

    def __init__(self) -> None:
        self._used = 0

    def fresh(self, kind: str) -> str:
        self._used += 1
        return f"{kind}-{self._used}"

    def draw(self, svg: str, figure: Figure) -> Markup:
        description = f"{figure.shows} What good looks like: {figure.good}"
        prefix = self.fresh("drawing") + "-"
        return Markup(inline(svg, prefix=prefix, title=figure.title, description=description))

    @staticmethod
    def fill(table: Table) -> "_Filled":
        return _fill(table)

    @staticmethod
    def number(item: KeyNumber) -> Shown:
        return shown(item.value, item.style, digits=item.digits)


@dataclass(frozen=True)
class _Row:
    """Cells with the marks of their notes; `span` is how many rows share the first one, 0 after the first of them."""

    cells: tuple[tuple[Shown, str], ...]
    span: int


@dataclass(frozen=True)
class _Filled:
    rows: tuple["_Row", ...]
    notes: tuple[tuple[str, str], ...]


def _fill(table: Table) -> _Filled:
    """Cells as words, each with the mark of its note."""
    marks: dict[str, str] = {}
    rows = []
    for row in table.rows:
        cells = [
            shown(cell, column.style, digits=column.digits) for cell, column in zip(row, table.columns, strict=True)
        ]
        for cell in cells:
            if cell.reason:
                marks.setdefault(cell.reason, str(len(marks) + 1))
        rows.append(tuple((cell, marks.get(cell.reason, "")) for cell in cells))
    spans = _spans([row[0][0].value for row in rows])
    return _Filled(tuple(map(_Row, rows, spans)), tuple((mark, printable(reason)) for reason, mark in marks.items()))


def _spans(names: list[str]) -> list[int]:
    """For each name, how many times it stands there in a row if it is the first of them, else 0."""
    return [n for _, group in groupby(names) for run in [len(list(group))] for n in (run, *(run - 1) * (0,))]


def _kind(block: Block) -> str:
    return "Paragraph" if isinstance(block, str) else type(block).__name__


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("trueup.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["kind"] = _kind
    return environment
