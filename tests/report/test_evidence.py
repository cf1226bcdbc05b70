from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import DataError, OutputError
from trueup.measure.scored import Estimate
from trueup.report.evidence import (
    CLOSES,
    OPENS,
    VERDICTS,
    Claim,
    Evidence,
    evidence_markdown,
    evidence_table,
    judge,
    read_claims,
    update_readme,
    write_evidence,
)

ROOT = Path(__file__).resolve().parents[2]
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"
CLAIMS = (
    Claim("Gold rises, then falls", "Gao 2023, fig. 1", "n to 512, 5 seeds", "0.47 [0.4, 0.5]", VERDICTS[0]),
    Claim(r"a | b \ c", "§ 3 <br>", "line\nbreak", "−0.1 [−0.2, 0.1]", VERDICTS[1]),
    Claim("beta falls", "table 2", "4 sizes", "+0.2 [0.1, 0.3]", VERDICTS[2]),
    Claim("alpha rises", "table 2", "4 sizes", "+0.2 [0.1, 0.3]", VERDICTS[0]),
)
EVIDENCE = Evidence(
    name="laws",
    title="Do the laws | hold?",
    lead="The paper says so.\n\nHere it is tried.",
    finding="Gold peaks at n = 16 in **5 of 5** worlds.",
    claims=CLAIMS,
    command="trueup lab reproduce laws",
    seeds=(0, 1, 2, 3, 4),
    settings={"prompts": "200", "proxy": "0.2M weights | 1,000 pairs"},
    sections=(("Curves", "![curves](laws-curves.svg)\n\nAs drawn."),),
    figures={"laws-curves.svg": SVG, "laws-extra.svg": SVG},
)


def test_page_has_claims_first_then_how_it_was_run_then_sections_then_remaining_figures():
    text = evidence_markdown(EVIDENCE)
    marks = ["# Do the laws", "The paper says so.", "**Finding.** Gold peaks", "## Claims", "## How it was run",
             "    trueup lab reproduce laws", "| seeds | 5 (0, 1, 2, 3, 4) |", "## Curves", "## Figures",
             "![laws-extra](laws-extra.svg)"]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert text.count("laws-curves.svg") == 1
    assert "4 claims: 2 reproduced, 1 not at this scale, 1 contradicted." in text
    assert r"0.2M weights \| 1,000 pairs" in text


def test_claims_are_read_back_exactly():
    assert read_claims(evidence_markdown(EVIDENCE)) == CLAIMS


texts = st.text(min_size=1).filter(lambda text: _allowed(text))


def _allowed(text):
    try:
        Claim(text, "s", "r", "e", "reproduced")
    except ValueError:
        return False
    return True


@given(st.lists(st.builds(Claim, texts, texts, texts, texts, st.sampled_from(VERDICTS))))
def test_any_claims_survive_the_page(claims):
    assert read_claims(evidence_markdown(replace(EVIDENCE, claims=claims))) == tuple(claims)


def test_claims_survive_the_file(tmp_path):
    page = write_evidence(EVIDENCE, tmp_path)
    assert page == tmp_path / "laws.md"
    assert read_claims(page.read_text(encoding="utf-8")) == CLAIMS
    assert (tmp_path / "laws-curves.svg").read_text() == SVG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["laws-curves.svg", "laws-extra.svg", "laws.md"]


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write_evidence(EVIDENCE, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", " a", "a\n", "a\x00", "a\rb"])
def test_texts_that_a_table_cannot_hold_are_refused(text):
    with pytest.raises(ValueError, match="printable"):
        Claim(text, "s", "r", "e", "reproduced")


def test_unknown_verdicts_and_unfit_names_are_refused():
    with pytest.raises(ValueError, match="verdict must be one of"):
        Claim("a", "s", "r", "e", "perhaps")
    with pytest.raises(ValueError, match="name must be"):
        replace(EVIDENCE, name="../laws")
    with pytest.raises(ValueError, match="finding must be one line"):
        replace(EVIDENCE, finding="one\ntwo")
    with pytest.raises(ValueError, match=r"laws-SOMETHING\.svg"):
        replace(EVIDENCE, figures={"bsr-curves.svg": SVG})


@pytest.mark.parametrize(
    ("low", "high", "claimed", "verdict"),
    [
        (0.1, 0.3, 1, "reproduced"),
        (0.1, 0.3, -1, "contradicted"),
        (-0.3, -0.1, 1, "contradicted"),
        (-0.3, -0.1, -1, "reproduced"),
        (-0.1, 0.3, 1, "not at this scale"),
        (0.0, 0.3, 1, "not at this scale"),
        (float("nan"), float("nan"), 1, "not at this scale"),
    ],
)
def test_intervals_judge_directions(low, high, claimed, verdict):
    assert judge(Estimate((low + high) / 2, low, high, 5), claimed=claimed) == verdict


def test_table_counts_verdicts_and_passes_over_pages_of_another_kind(tmp_path):
    write_evidence(EVIDENCE, tmp_path)
    (tmp_path / "older.md").write_text("# An older page?\n\n| claim | verdict |\n| --- | --- |\n| a | reproduced |\n")
    (tmp_path / "empty.md").write_text("")
    assert evidence_table(tmp_path, link="here").split("\n") == [
        "| evidence | question | reproduced | not at this scale | contradicted | finding |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        "| [empty](here/empty.md) | – | – | – | – | – |",
        r"| [laws](here/laws.md) | Do the laws \| hold? | 2 | 1 | 1 | Gold peaks at n = 16 in **5 of 5** worlds. |",
        "| [older](here/older.md) | An older page? | – | – | – | – |",
    ]


@pytest.mark.parametrize("spoil", [("| contradicted |", "| wrong |"), ("| contradicted |", "|")])
def test_a_damaged_table_is_named_with_its_line(tmp_path, spoil):
    page = write_evidence(EVIDENCE, tmp_path)
    text = page.read_text(encoding="utf-8").replace(*spoil)
    page.write_text(text, encoding="utf-8")
    line = 1 + next(i for i, words in enumerate(text.split("\n")) if words.startswith("| beta falls"))
    with pytest.raises(DataError) as raised:
        read_claims(text)
    assert raised.value.row == line
    with pytest.raises(DataError, match=r"laws\.md"):
        evidence_table(tmp_path)


def test_readme_gets_the_table_once_and_keeps_the_rest(tmp_path):
    folder, readme = tmp_path / "docs" / "evidence", tmp_path / "README.md"
    write_evidence(EVIDENCE, folder)
    readme.write_text(f"# Project\n\n{OPENS}\nold\n{CLOSES}\n\nEnd.\n", encoding="utf-8")
    assert update_readme(readme, folder)
    text = readme.read_text(encoding="utf-8")
    assert text == f"# Project\n\n{OPENS}\n\n{evidence_table(folder)}\n\n{CLOSES}\n\nEnd.\n"
    assert not update_readme(readme, folder)


@pytest.mark.parametrize("text", ["none", f"{OPENS}", f"{CLOSES} {OPENS}", f"{OPENS} {CLOSES} {OPENS}"])
def test_readme_without_the_markers_is_named(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(DataError, match=r"README\.md.*no place"):
        update_readme(readme, tmp_path)
    assert readme.read_text() == text


def test_missing_readme_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        update_readme(tmp_path / "README.md", tmp_path)


def test_the_projects_readme_holds_the_generated_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(OPENS)[2].partition(CLOSES)[0].strip()
    assert shown == evidence_table(ROOT / "docs" / "evidence"), "run python benchmarks/readme_evidence.py"
