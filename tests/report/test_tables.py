import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.measure.scored import Estimate
from trueup.report.tables import cell_text, markdown_table, read_cells, table_line, with_interval
from trueup.report.text import printable

INF = math.inf


@pytest.mark.parametrize(
    ("estimate", "style", "words"),
    [
        (Estimate(0.123, 0.05, 0.19, 5), "number", "0.12 [0.05, 0.19]"),
        (Estimate(-0.123, -0.2, 0.05, 5), "signed", "−0.12 [−0.20, +0.05]"),
        (Estimate(1.5, 1.0, INF, 5), "number", "1.50 [1.00, ∞]"),
        (Estimate(INF, 1.0, INF, 5), "number", "∞ [1.00, ∞]"),
        (Estimate(0.25, math.nan, math.nan, 1), "number", "0.25"),
        (Estimate(math.nan, math.nan, math.nan, 0), "number", "–"),
        (Estimate(0.5, 0.25, 0.75, 8), "percent", "50% [25%, 75%]"),
    ],
)
def test_estimates_with_intervals(estimate, style, words):
    assert with_interval(estimate, style) == words


def test_table_aligns_numbers_right_and_text_left():
    rows = [["a|b", 3, Estimate(0.5, 0.4, 0.6, 9)], ["c", 10, None]]
    assert markdown_table(("name", "n", "gold"), rows).split("\n") == [
        "| name | n | gold |",
        "| --- | ---: | ---: |",
        r"| a\|b | 3 | 0.50 [0.40, 0.60] |",
        "| c | 10 | – |",
    ]


def test_ragged_rows_are_refused():
    with pytest.raises(ValueError, match=r"3 cells, got \[2\]"):
        markdown_table(("a", "b", "c"), [["x", "y"]])


@given(st.lists(st.text(st.sampled_from('ab\\|<br>/\n`* "'), min_size=1), min_size=1))
def test_cells_are_read_back_as_written(texts):
    texts = [text.strip() for text in texts]
    line = table_line([cell_text(text) for text in texts])
    assert "\n" not in line
    assert read_cells(line) == texts


@given(st.text())
def test_any_text_is_one_cell(text):
    kept = printable(text).strip(" ")
    assert read_cells(table_line([cell_text(text), "end"])) == [kept, "end"]
