import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.measure.scored import Estimate
from trueup.report.text import NOT_MEASURED, UNDEFINED, Missing, estimate, number, printable, shorten, shown


@pytest.mark.parametrize(
    ("value", "style", "digits", "words"),
    [
        (0.71249, "number", 3, "0.712"),
        (0.71249, "percent", 3, "71.2%"),
        (0.71249, "percent", 2, "71%"),
        (-0.0001, "number", 3, "0.000"),
        (-0.0001, "signed", 2, "0.00"),
        (0.25, "signed", 2, "+0.25"),
        (-1.5, "signed", 1, "\u22121.5"),
        (0.025, "points", 3, "+2.5"),
        (-0.025, "points", 3, "\u22122.5"),
        (12345, "count", 3, "12,345"),
        (3.2e9, "number", 2, "3.2e+09"),
        (math.nan, "number", 2, "–"),
        (-math.inf, "count", 2, "–"),
    ],
)
def test_numbers_as_words(value: float, style: str, digits: int, words: str) -> None:
    assert number(value, style, digits=digits) == words


@given(st.floats(-1e6, 1e6), st.integers(0, 5))
def test_a_number_reads_back_to_within_half_a_unit(value: float, digits: int) -> None:
    back = float(number(value, digits=digits).replace("\u2212", "-"))
    assert abs(back - value) <= 0.5 * 10.0**-digits * (1 + 1e-6)


def test_intervals_share_the_percent_sign() -> None:
    cell = shown(Estimate(0.5, 0.4, 0.6, 10), "percent", digits=3)
    assert (cell.value, cell.interval) == ("50.0%", "40.0 to 60.0%")


def test_estimates_are_read_from_all_their_forms() -> None:
    assert estimate({"value": 1, "low": 0, "high": 2, "n": 3}) == Estimate(1.0, 0.0, 2.0, 3)
    assert estimate({"value": None, "low": None, "high": None, "n": 0}) == Missing(UNDEFINED)
    assert estimate(None) == Missing(NOT_MEASURED)
    assert estimate(True) == Missing(NOT_MEASURED)
    bare = estimate(0.5)
    assert isinstance(bare, Estimate)
    assert bare.value == 0.5
    assert math.isnan(bare.low)


@given(st.text(max_size=80), st.integers(3, 40))
def test_short_names_keep_both_ends_and_the_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)
    whole = " ".join(printable(text).split())
    assert len(short) <= limit
    assert short == whole if len(whole) <= limit else short[0] == whole[0]
    short.encode("utf-8")
