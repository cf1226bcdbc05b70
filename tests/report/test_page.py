import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup import files
from trueup.errors import OutputError
from trueup.measure.scored import Estimate
from trueup.report.figures import NARROW, Scale, forest
from trueup.report.page import (
    Column,
    Details,
    Figure,
    Findings,
    KeyNumber,
    Page,
    Quote,
    Quotes,
    Section,
    Table,
    Verdict,
    render,
    write_page,
)
from trueup.report.text import Missing

from .page_reading import Reading, read

HOSTILE = "<script>alert(1)</script>\"'&<!-- \u202e \ud800 \x00 \U0001f9ea ]]> {{ 7*7 }} $x$"


def drawing(name: str = "m", width: int = NARROW) -> str:
    return forest({name: {"a": Estimate(0.5, 0.4, 0.6, 9)}}, Scale(label="x"), width=width)


def full_page(words: str = "words") -> Page:
    """Every component, each holding the same words."""
    table = Table(
        columns=(Column(words), Column("n", "count")), rows=((words, 3), (words, Missing(words))), caption=words
    )
    figure = Figure(svg=drawing(words), narrow=drawing(words), title=words, shows=words, good=words)
    quotes = Quotes((Quote(words, words, words), Quote("b", "")))
    return Page(
        title=words,
        lead=words,
        verdict=(Findings(words, (Verdict("good", words), Verdict("bad", words), Verdict("watch", words))),),
        numbers=(KeyNumber(label=words, value=Missing(words)), KeyNumber(label="k", value=0.5, detail=words)),
        sections=tuple(
            Section(words, (words, figure, table, quotes, Details(words, (words, figure)))) for _ in range(3)
        ),
        provenance={words: words},
        recipe=words,
    )


def check_structure(reading: Reading) -> None:
    assert not reading.open
    assert not reading.wrong
    ids = set(reading.ids)
    assert len(reading.ids) == len(ids)
    assert all(address.startswith("#") and address[1:] in ids for address in reading.addresses())
    assert not {"script", "link", "iframe", "img", "object", "base"} & set(reading.tags)
    for _, attributes in reading.attributes:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("aria-labelledby", "clip-path", "style"):
            named = str(attributes.get(name) or "")
            wanted = named.split() if name == "aria-labelledby" else re.findall(r"url\(#?([^)]*)\)", named)
            assert set(wanted) <= ids


def test_a_page_with_every_component_is_self_contained_and_well_formed() -> None:
    check_structure(read(render(full_page())))


def test_the_style_asks_for_nothing_from_outside() -> None:
    html = render(full_page())
    assert not re.search(r"@import|@font-face|url\((?!#)", html)
    assert re.findall(r"https?://[^\"' ]+", html) == ["http://www.w3.org/2000/svg"] * 12
    assert "default-src 'none'" in html


def test_hostile_words_are_shown_and_not_obeyed() -> None:
    html = render(full_page(HOSTILE))
    reading = read(html)
    check_structure(reading)
    assert "<script" not in html
    assert reading.words.count("<script>alert(1)</script>") > 30
    assert "{{ 7*7 }}" in reading.words
    assert not re.search("[\x00\ud800]", html)
    html.encode("utf-8")


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=40))
def test_any_words_give_a_well_formed_page(words: str) -> None:
    table = Table(columns=(Column(words),), rows=((words,),), caption=words)
    page = Page(
        title=words,
        lead=words,
        verdict=(Findings(words, (Verdict("bad", words),)),),
        sections=(Section(words, (words, table, Quotes((Quote(words, words, words),)), Details(words, (words,)))),),
        provenance={words: words},
    )
    html = render(page)
    check_structure(read(html))
    html.encode("utf-8")


def test_numbers_without_a_value_print_a_dash_and_say_why() -> None:
    cells = (math.nan, math.inf, None, Missing("no gold scores"), Estimate(0.5, math.nan, math.nan, 1), 0.25)
    table = Table(
        columns=(Column("row"), Column("value", "number", 2)),
        rows=tuple((f"r{k}", cell) for k, cell in enumerate(cells)),
        caption="c",
    )
    page = Page(title="t", lead="l", sections=(Section("s", (table,)),))
    words = read(render(page)).words
    assert "nan" not in words.replace("not a number", "")
    for part in (
        "r0 – 1", "r1 – 2", "r2 – 3", "r3 – 4", "r4 0.50 no interval", "r5 0.25",
        "1 undefined (not a number)", "2 infinite", "3 not measured", "4 no gold scores",
    ):  # fmt: skip
        assert part in words


def test_rows_of_one_group_share_their_name() -> None:
    rows = (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))
    table = Table(columns=(Column("group"), Column("v")), rows=rows, caption="c")
    reading = read(render(Page(title="t", lead="l", sections=(Section("s", (table,)),))))
    heads = [a for tag, a in reading.attributes if tag == "th"]
    assert [(a.get("scope"), a.get("rowspan")) for a in heads] == [
        ("col", None), ("col", None), ("rowgroup", "2"), ("row", None), ("row", None),
    ]  # fmt: skip
    assert reading.tags.count("td") == 4


def test_figures_carry_title_description_and_reading_guide() -> None:
    figure = Figure(svg=drawing(), title="A title", shows="It shows.", good="It is good.")
    reading = read(render(Page(title="t", lead="l", sections=(Section("s", (figure,)),))))
    svg = next(a for tag, a in reading.attributes if tag == "svg")
    assert svg["role"] == "img"
    assert "It shows. What good looks like: It is good." in reading.words
    assert "What it shows. It shows." in reading.words


def test_the_verdict_says_its_level_in_words() -> None:
    words = read(render(full_page())).words
    assert all(level in words for level in ("✓ Good", "! Watch", "✕ Bad"))


def test_long_verdicts_fold_after_six() -> None:
    findings = Findings("m", tuple(Verdict("bad", f"finding {k}") for k in range(9)))
    reading = read(render(Page(title="t", lead="l", verdict=(findings,))))
    assert "3 more" in reading.words
    assert reading.words.index("finding 5") < reading.words.index("3 more") < reading.words.index("finding 6")


def test_a_drawing_that_reaches_outside_is_refused() -> None:
    for bad in ("<script/>", '<use href="https://x.y/z#a"/>', '<path onclick="x"/>', '<rect style="fill:url(//x)"/>'):
        svg = f'<svg xmlns="http://www.w3.org/2000/svg">{bad}</svg>'
        page = Page(
            title="t",
            lead="l",
            sections=(Section("s", (Figure(svg=svg, title="t", shows="s", good="g"),)),),
        )
        with pytest.raises(ValueError, match="drawing must"):
            render(page)


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row 0 has 1 cells for 2 columns"):
        Table(columns=(Column("a"), Column("b")), rows=(("x",),), caption="c")


def test_equal_pages_give_equal_text() -> None:
    assert render(full_page()) == render(full_page())


def test_writing_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_page(full_page(HOSTILE), path) == path
    assert path.read_text(encoding="utf-8") == render(full_page(HOSTILE))
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left on device") as raised:
        write_page(full_page(), path)
    assert str(path) in str(raised.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "report.html").mkdir()
    for path in (tmp_path / "file" / "report.html", tmp_path / "report.html"):
        with pytest.raises(OutputError, match=re.escape(str(path))):
            write_page(full_page(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "report.html"]
