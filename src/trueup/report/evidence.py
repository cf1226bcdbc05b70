"""Pages of evidence: what a paper claims, what was run, what came out; and the README's table of them.

A page `docs/evidence/NAME.md` begins with a table of claims that `read_claims` reads back, so that the README's table
is generated from the pages themselves.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from trueup.errors import DataError
from trueup.files import write_text, written_together
from trueup.measure.scored import Estimate
from trueup.report.tables import cell_text, markdown_table, read_cells, table_line
from trueup.report.text import DASH, printable

Verdict = Literal["reproduced", "not at this scale", "contradicted"]
"""What a run says of a claim."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
OPENS, CLOSES = "<!-- evidence -->", "<!-- /evidence -->"

_COLUMNS = ("claim", "source", "what was run", "effect", "verdict")
_FINDING = "**Finding.** "
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and what became of it.

    Args:
        statement: What is claimed.
        source: Where: paper, and section, figure or table.
        ran: What was run to test it.
        effect: The measured effect with its interval, see `tables.with_interval`.
        verdict: `reproduced`, `not at this scale` or `contradicted`.

    Raises:
        ValueError: A text is empty, begins or ends with a blank, or holds control characters.
    """

    statement: str
    source: str
    ran: str
    effect: str
    verdict: Verdict

    def __post_init__(self) -> None:
        for text in astuple(self):
            if not text or text != text.strip() or printable(text) != text or "\r" in text:
                raise ValueError(f"a claim's texts must be printable, with no blanks at their ends, got {text!r}")
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything on one page.

    Args:
        name: Name of the page's file without its ending: small letters, digits, `-` and `_`.
        title: The question, in one line.
        lead: One or more paragraphs: what the paper says and what is asked here.
        finding: The answer in one line, for the README's table.
        claims: The claims tested.
        command: The command that writes the page.
        seeds: Seeds of the independent worlds or runs.
        settings: What was run, by name.
        sections: Headings and their Markdown.
        figures: SVG text by file name; each name begins with `name`. Those that no section shows come last.
        files: Text of further files that the page speaks of, by name.
    """

    name: str
    title: str
    lead: str
    finding: str
    claims: Sequence[Claim]
    command: str
    seeds: Sequence[int]
    settings: Mapping[str, str]
    sections: Sequence[tuple[str, str]] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name must be small letters, digits, - and _, got {self.name!r}")
        for label, text in (("title", self.title), ("finding", self.finding), ("command", self.command)):
            if not text.strip() or "\n" in text:
                raise ValueError(f"{label} must be one line, got {text!r}")
        for figure in self.figures:
            if not re.fullmatch(re.escape(self.name) + r"[a-z0-9_-]*\.svg", figure):
                raise ValueError(f"a figure of {self.name!r} must be named {self.name}-SOMETHING.svg, got {figure!r}")


def judge(effect: Estimate, *, claimed: Literal[1, -1]) -> Verdict:
    """What an interval says of a claimed direction; one that holds 0, or is undefined, decides nothing."""
    low, high = sorted((claimed * effect.low, claimed * effect.high))
    if low > 0:
        return "reproduced"
    return "contradicted" if high < 0 else "not at this scale"


def evidence_markdown(evidence: Evidence) -> str:
    """The page: finding, claims, how it was run, sections, figures."""
    return "\n\n".join(part.strip("\n") for part in _parts(evidence)) + "\n"


def _parts(evidence: Evidence) -> Iterator[str]:
    yield f"# {printable(evidence.title)}"
    yield f"*Written by `{evidence.command}`; every figure on this page comes from one run of it.*"
    yield printable(evidence.lead)
    yield _FINDING + printable(evidence.finding)
    yield f"## Claims\n\n{markdown_table(_COLUMNS, [astuple(claim) for claim in evidence.claims])}"
    yield f"{_count(evidence.claims)} Brackets are intervals over seeds or prompts, as stated with each effect."
    seeds = ", ".join(map(str, evidence.seeds))
    settings = [*evidence.settings.items(), ("seeds", f"{len(evidence.seeds)} ({seeds})" if seeds else DASH)]
    yield f"## How it was run\n\n    {evidence.command}\n\n{markdown_table(('setting', 'value'), settings)}"
    for heading, body in evidence.sections:
        yield f"## {printable(heading)}\n\n{printable(body)}"
    shown = "\n".join(body for _, body in evidence.sections)
    left = [figure for figure in evidence.figures if f"]({figure})" not in shown]
    if left:
        yield "## Figures\n\n" + "\n\n".join(f"![{Path(figure).stem}]({figure})" for figure in left)


def _count(claims: Sequence[Claim]) -> str:
    found = [f"{sum(claim.verdict == verdict for claim in claims)} {verdict}" for verdict in VERDICTS]
    return f"{len(claims)} claims: {', '.join(found)}."


def write_evidence(evidence: Evidence, folder: str | Path) -> Path:
    """Write the page and its figures, all or none; returns the page's path.

    Raises:
        OutputError: The folder cannot be written.
    """
    page = f"{evidence.name}.md"
    with written_together(Path(folder)) as temporary:
        for name, text in {**evidence.figures, **evidence.files}.items():
            write_text(temporary / name, text)
        write_text(temporary / page, evidence_markdown(evidence))
    return Path(folder) / page


def read_claims(markdown: str) -> tuple[Claim, ...]:
    """The claims of a page, exactly as they were written; none where the page has no table of claims.

    Raises:
        DataError: A line of the table is not a claim.
    """
    lines = markdown.split("\n")
    header = table_line([cell_text(name) for name in _COLUMNS])
    if header not in lines:
        return ()
    claims = []
    for row, line in enumerate(lines[lines.index(header) + 2 :], start=lines.index(header) + 3):
        if not line.startswith("|"):
            break
        try:
            claims.append(Claim(*read_cells(line)))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{line[:80]!r} is not a claim ({error})",
                row=row,
                expected=f"the cells {', '.join(_COLUMNS)}",
                cure="write the page again with the command that it names",
            ) from error
    return tuple(claims)


def evidence_table(folder: str | Path, *, link: str = "docs/evidence") -> str:
    """The README's table: one row for each page, by name; dashes where a page has no table of claims.

    Args:
        folder: Folder of the pages.
        link: The same folder as links name it.

    Raises:
        DataError: A page's table of claims is damaged.
    """
    pages = sorted(Path(folder).glob("*.md"))
    header = ("evidence", "question", *VERDICTS, "finding")
    lines = [table_line(header), table_line(["---", "---", "---:", "---:", "---:", "---"])]
    return "\n".join([*lines, *(table_line(_row(page, link)) for page in pages)])


def _row(page: Path, link: str) -> list[str]:
    try:
        text = page.read_text(encoding="utf-8")
        claims = read_claims(text)
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"this page of evidence cannot be read: {error}", file=page) from error
    counts = [str(sum(claim.verdict == verdict for claim in claims)) if claims else DASH for verdict in VERDICTS]
    title, finding = _line(text, "# "), _line(text, _FINDING)
    return [f"[{page.stem}]({link}/{page.name})", cell_text(title), *counts, cell_text(finding)]


def _line(text: str, begins: str) -> str:
    """What follows on the first line that begins so; a dash where there is none."""
    found = (line.removeprefix(begins) for line in text.split("\n") if line.startswith(begins))
    return next(found, DASH)


def update_readme(readme: str | Path, folder: str | Path) -> bool:
    """Put the table of evidence between the README's markers; returns whether it changed.

    Raises:
        DataError: The README cannot be read or lacks the markers.
        OutputError: It cannot be written.
    """
    readme = Path(readme)
    before = _read(readme)
    start, _, rest = before.partition(OPENS)
    _, closed, end = rest.partition(CLOSES)
    if not closed or OPENS in end or CLOSES in start:
        raise DataError(
            "the table of evidence has no place",
            file=readme,
            expected=f"one line {OPENS} and, after it, one line {CLOSES}",
        )
    link = Path(os.path.relpath(folder, readme.parent)).as_posix()
    after = f"{start}{OPENS}\n\n{evidence_table(folder, link=link)}\n\n{CLOSES}{end}"
    if after == before:
        return False
    write_text(readme, after)
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", file=path) from error
