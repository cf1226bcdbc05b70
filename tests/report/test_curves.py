import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from trueup.divergences.best_of_n import nominal_kl
from trueup.measure.scored import Estimate
from trueup.report.curves import NARROW, WIDE, OptimizationCurve, drift, gold_and_proxy, gold_overlay

N = (1, 2, 4, 8, 16, 64, 256, 1024)
D = tuple(np.sqrt(nominal_kl(np.asarray(N))).tolist())
ODD = "<b> $x_1$ & λ 测试 \U0001f9ea \x00 \ud800 " + "long " * 20


def band(values: list[float]) -> list[Estimate]:
    return [Estimate(value, value - 0.1, value + 0.1, 50) for value in values]


def curve(**changes: object) -> OptimizationCurve:
    law = (1.0, 0.4)
    given = {
        "n": N,
        "d": D,
        "proxy": band([1.2 * d for d in D]),
        "gold": band([d * (law[0] - law[1] * d) for d in D]),
        "law": law,
        "peak": Estimate(1.25, 1.1, math.inf, 50),
        "verdict": "gold peaks",
    }
    return OptimizationCurve(**{**given, **changes})


HOLES = [*band([0.0] * 7), Estimate(math.nan, math.nan, math.nan, 0)]
CURVES = {"bt": curve(), ODD: curve(law=None, peak=None, proxy=HOLES, verdict="cannot tell if gold peaks")}
NO_GOLD = {"bt": curve(gold=(), law=None, peak=None, verdict="")}
SIGNALS = {
    "bt": {"length": band([10.0 + d for d in D]), "norm": HOLES},
    ODD: {"length": [Estimate(5.0, math.nan, math.nan, 1)] * len(N)},
}

DRAWN = {
    "gold_and_proxy": lambda width: gold_and_proxy(CURVES, width=width),
    "one": lambda width: gold_and_proxy({"bt": curve()}, width=width),
    "no gold": lambda width: gold_and_proxy(NO_GOLD, width=width),
    "overlay": lambda width: gold_overlay({**CURVES, **{"none": NO_GOLD["bt"]}}, width=width),
    "drift": lambda width: drift(SIGNALS, n=N, d=D, width=width),
    "nothing": lambda width: drift({"bt": {}}, n=N, d=D, width=width),
    "single n": lambda width: gold_and_proxy(
        {"bt": OptimizationCurve(n=(1,), d=(0.0,), proxy=band([0.0]))}, width=width
    ),
}


@pytest.fixture(params=[(name, width) for name in DRAWN for width in (NARROW, WIDE)], ids=lambda p: f"{p[0]}-{p[1]}")
def drawn(request: pytest.FixtureRequest) -> tuple[str, str, int]:
    name, width = request.param
    return name, DRAWN[name](width), width


def words(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def places(svg: str) -> list[tuple[str, float, float]]:
    """Words with where they stand."""
    texts = [e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]
    return [("".join(e.itertext()), float(e.get("x", "nan")), float(e.get("y", "nan"))) for e in texts]


def test_equal_inputs_give_equal_bytes(drawn: tuple[str, str, int]) -> None:
    name, svg, width = drawn
    assert DRAWN[name](width) == svg


def test_every_drawing_is_clean(drawn: tuple[str, str, int]) -> None:
    _, svg, width = drawn
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox", "").split()[2] == str(width)
    assert "nan" not in svg
    assert '#ffffff"' not in svg.replace("var(--paper, #ffffff)", "")
    assert "\x00" not in svg


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_words_stay_on_the_sheet(width: int) -> None:
    for name in ("gold_and_proxy", "overlay", "drift"):
        svg = DRAWN[name](width)
        height = float(ElementTree.fromstring(svg).get("viewBox", "").split()[3])
        for _, x, y in places(svg):
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_axes_speak_in_plain_words() -> None:
    seen = words(gold_and_proxy({"bt": curve()}, width=WIDE))
    assert "distance from the base policy: square root of KL (sqrt nats)" in seen
    assert "square root of KL (sqrt nats)" in words(gold_and_proxy({"bt": curve()}, width=NARROW))
    assert {"best of n", "std above n = 1", "gold", "the proxy itself", "gold peaks", "bt", "1", "1,024"} <= set(seen)


def test_sizes_stand_above_their_distances() -> None:
    svg = gold_overlay({"bt": curve()}, width=WIDE)
    at = {text: x for text, x, _ in places(svg) if text in {"1", "8", "64", "1,024"}}
    left, right = at["1"], at["1,024"]
    for n, text in ((8, "8"), (64, "64")):
        share = math.sqrt(nominal_kl(n) / nominal_kl(1024))
        assert at[text] == pytest.approx(left + share * (right - left), abs=8)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_sizes_above_never_touch(width: int) -> None:
    n = tuple(range(1, 4097, 5))
    d = tuple(np.sqrt(nominal_kl(np.asarray(n))).tolist())
    svg = gold_and_proxy({"bt": OptimizationCurve(n=n, d=d, proxy=band(list(d)))}, width=width)
    line = next(y for text, _, y in places(svg) if text == "4,096")
    above = sorted((x, text) for text, x, y in places(svg) if y == line)
    assert [text for _, text in above][:: len(above) - 1] == ["1", "4,096"]
    for (one, left), (two, right) in itertools.pairwise(above):
        assert two - one > 3 * (len(left) + len(right))


def test_the_peak_is_marked_only_where_the_data_show_one() -> None:
    with_peak = gold_and_proxy({"bt": curve()}, width=WIDE)
    without = gold_and_proxy({"bt": curve(peak=None)}, width=WIDE)
    beyond = gold_and_proxy({"bt": curve(peak=Estimate(99.0, 90.0, 110.0, 50))}, width=WIDE)
    assert with_peak != without
    assert beyond == without


def test_gold_and_proxy_have_one_colour_in_all_panels() -> None:
    svg = gold_and_proxy({"a": curve(), "b": curve()}, width=WIDE)
    assert "--series-1" in svg
    assert "--series-2" in svg
    assert "--series-3" not in svg


def test_panels_share_their_scale() -> None:
    tall = curve(gold=band([5.0] * len(N)))
    svg = gold_and_proxy({"a": curve(), "b": tall}, width=WIDE)
    scales = [[t for t, x, _ in places(svg) if low < x < low + 50 and "." in t] for low in (0, 440)]
    assert scales[0][-1] == "4.5"
    assert scales[0] == [text for text in scales[1] if text in scales[0]]
