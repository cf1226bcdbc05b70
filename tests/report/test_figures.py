import math
import re
from xml.etree import ElementTree

import pytest

from trueup.measure.scored import Estimate
from trueup.report.canvas import SERIES
from trueup.report.figures import (
    NARROW,
    WIDE,
    Curve,
    Histogram,
    Scale,
    forest,
    histograms,
    length_bias,
    reliability,
    training_curves,
    win_rates,
)

ODD = "<b> $x_1$ & λ 测试 \U0001f9ea \x00 \ud800 " + "long " * 20
RATES = {
    "bt": {"mild": Estimate(0.2, 0.1, 0.3, 40), "bad": Estimate(0.9, 0.8, 0.95, 40), "unknown": None},
    ODD: {"mild": Estimate(0.1, 0.0, 0.2, 40), "bad": Estimate(math.nan, math.nan, math.nan, 0)},
}
CURVE = [{"confidence": 0.6, "accuracy": 0.4, "n": 30.0}, {"confidence": 0.9, "accuracy": 0.7, "n": 90.0}]
EMPTY_BIN = {"confidence": math.nan, "accuracy": math.nan, "n": 0.0}
LAYERS = {"bt": {"a": Histogram((0, 1, 3), (2, 4)), "b": Histogram((0, 1), (0,))}, ODD: {"a": Histogram((0, 1), (5,))}}
RUNS = {"bt": {"loss": Curve((1, 2, 3), (1.0, math.nan, 0.5))}, ODD: {"accuracy": Curve((1, 2), (0.5, math.inf))}}

DRAWN = {
    "forest": lambda width: forest(RATES, Scale(label="x", reference=0.5, name="chance"), width=width),
    "win_rates": lambda width: win_rates(RATES, width=width),
    "length_bias": lambda width: length_bias(RATES, width=width),
    "histograms": lambda width: histograms(LAYERS, "reward", width=width),
    "reliability": lambda width: reliability(
        {"bt": {"s": [*CURVE, EMPTY_BIN]}, ODD: {"s": CURVE, "t": []}}, width=width
    ),
    "training_curves": lambda width: training_curves(RUNS, width=width),
    "nothing": lambda width: forest({"bt": {"a": None}}, Scale(label="x"), width=width),
}


@pytest.fixture(params=[(name, width) for name in DRAWN for width in (NARROW, WIDE)], ids=lambda p: f"{p[0]}-{p[1]}")
def drawn(request: pytest.FixtureRequest) -> tuple[str, str, int]:
    name, width = request.param
    return name, DRAWN[name](width), width


def words(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def test_equal_inputs_give_equal_bytes(drawn: tuple[str, str, int]) -> None:
    name, svg, width = drawn
    assert DRAWN[name](width) == svg


def test_a_drawing_stands_alone_and_takes_the_colours_of_the_page(drawn: tuple[str, str, int]) -> None:
    _, svg, width = drawn
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox", "").split()[2] == str(width)
    assert root.get("width") is None
    assert svg.startswith("<svg")
    assert not re.search(r"metadata|<style|DejaVu|xlink|20\d\d-\d\d|nan", svg)
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    assert colours, "something is drawn"
    assert all(c in ("none", "currentColor") or re.fullmatch(r"var\(--[\w-]+, #[0-9a-f]{6}\)", c) for c in colours)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids)


def test_words_are_at_least_twelve_pixels(drawn: tuple[str, str, int]) -> None:
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", drawn[1])]
    sizes += [float(size) for size in re.findall(r"font: (?:bold )?([\d.]+)px", drawn[1])]
    assert sizes
    assert min(sizes) >= 12


def test_different_drawings_share_no_ids() -> None:
    one, two = (set(re.findall(r' id="([^"]+)"', DRAWN[name](WIDE))) for name in ("forest", "win_rates"))
    assert one
    assert two
    assert not one & two


def test_win_rates_put_the_worst_edit_first_and_what_is_unknown_last() -> None:
    found = [w for w in words(win_rates(RATES)) if w in ("mild", "bad", "unknown")]
    assert found == ["bad", "mild", "unknown"]


def test_a_forest_prints_every_number_and_a_dash_where_there_is_none() -> None:
    found = words(forest(RATES, Scale(label="rate", style="percent", digits=2)))
    assert found.count("–") == 3
    assert {"20%", "90%", "10%"} <= set(found)
    assert "rate" in found


def test_points_lie_where_their_values_say() -> None:
    values = {"m": {"a": Estimate(0.25, 0.0, 1.0, 9), "b": Estimate(0.75, 0.0, 1.0, 9), "c": Estimate(0.5, 0, 1, 9)}}
    svg = forest(values, Scale(label="x", limits=(0, 1)))
    x = [float(m) for m in re.findall(r'<use x="([\d.]+)"[^>]*var\(--series-1', svg)]
    assert len(x) == 3
    assert x[2] == pytest.approx((x[0] + x[1]) / 2, abs=0.05)
    assert x[0] < x[1]


def test_names_with_dollar_signs_are_not_mathematics() -> None:
    svg = forest({"a": {"$x$": Estimate(1, 0, 2, 3)}, "$y_1$": {"$x$": None}}, Scale(label="l"))
    assert {"$x$", "$y_1$"} <= set(words(svg))


def test_a_histogram_is_a_density() -> None:
    histogram = Histogram((0, 1, 3), (2, 4))
    assert histogram.density.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert histogram.mean == pytest.approx((0.5 * 2 + 2 * 4) / 6)
    assert math.isnan(Histogram((0, 1), (0,)).mean)
    assert Histogram((0, 1), (0,)).density.tolist() == [0]


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_on_light_and_on_dark() -> None:
    from trueup.report.page import Page, render

    light, dark = re.findall(r":root \{(.*?)\}", render(Page(title="t", lead="l")), re.S)[:2]
    for theme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
        for name in ("paper", "raised"):
            assert contrast(colours["ink"], colours[name]) >= 7
            assert contrast(colours["muted"], colours[name]) >= 4.5
        for level in ("good", "watch", "bad"):
            assert contrast(colours[level], colours[f"{level}-back"]) >= 4.5
        for k in range(1, len(SERIES) + 1):
            assert contrast(colours[f"series-{k}"], colours["paper"]) >= 3
    assert [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))[f"series-{k + 1}"] for k in range(6)] == list(SERIES)
