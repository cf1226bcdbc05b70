"""The page of a front between objectives."""

from typing import Any

import pytest

from trueup.report.modpo_front import SCHEMA, fronts, modpo_front_page
from trueup.report.page import render

from .page_reading import read


def value(mean: float, half: float | None = 0.1) -> dict[str, Any]:
    ends = (None, None) if half is None else (mean - half, mean + half)
    return {"value": mean, "low": ends[0], "high": ends[1], "n": 5}


def point(name: str, weights: list[float] | None, rewards: list[float], better: tuple[str, ...] = ()) -> dict[str, Any]:
    labels = ("<b>plums</b>", "pears", "figs")
    each = {label: value(one) for label, one in zip(labels, rewards, strict=False)}
    return {"name": name, "weights": weights, "rewards": each, "kl": value(1.0, None), "dominated_by": list(better)}


def measured(points: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(points[0]["rewards"])
    begin = dict.fromkeys(names, 0.0)
    return {
        "schema": SCHEMA,
        "objectives": names,
        "prompts": 5,
        "samples": 2,
        "points": points,
        "hypervolume": {"value": value(3.25), "from": begin, "given": True},
        "intervals": {"level": 0.95},
        "created_by": {"recipe": "model: x\n", "seed": 0},
    }


TWO = [
    point("start", None, [0.0, 0.0]),
    point("a", [0.9, 0.1], [3.0, 1.0]),
    point("b", [0.5, 0.5], [1.0, 0.5], ("a",)),
    point("c", [0.1, 0.9], [1.0, 3.0]),
    point("d", [0.2, 0.8], [-1.0, -1.0], ("start", "a", "c")),
]


def test_the_page_is_whole_and_says_what_is_dominated():
    text = render(modpo_front_page(measured(TWO)))
    reading = read(text)
    assert (reading.wrong, reading.open) == ([], [])
    assert "script" not in reading.tags
    assert "b is dominated: a is at least as good" in reading.words
    assert "d is dominated: start, a, c" in reading.words
    assert "c is dominated" not in reading.words
    assert "3.250" in reading.words
    assert "<b>plums</b>" in reading.words
    assert render(modpo_front_page(measured(TWO))) == text


def test_levels_of_the_verdict():
    (found,) = modpo_front_page(measured(TWO)).verdict
    assert [one.level for one in found.items] == ["watch", "bad"]
    (good,) = modpo_front_page(measured([TWO[0], TWO[1]])).verdict
    assert [one.level for one in good.items] == ["good"]


@pytest.mark.parametrize("width", [880, 344])
def test_one_panel_for_each_pair_of_objectives(width):
    three = [point("start", None, [0.0, 0.0, 0.0]), point("a", [0.2, 0.3, 0.5], [1.0, 2.0, 3.0])]
    drawn = fronts(three, list(three[0]["rewards"]), width=width)
    assert drawn.count("0.2/0.3/0.5") == 3
    assert drawn.count(">start<") == 3
    assert fronts(TWO, list(TWO[0]["rewards"]), width=width).count("0.9/0.1") == 1


def test_what_was_not_measured_is_left_out():
    lacking = {**TWO[1], "rewards": {}}
    assert "0.9/0.1" not in fronts([TWO[0], lacking], ["<b>plums</b>", "pears"])
    with pytest.raises(ValueError, match="schema"):
        modpo_front_page({"schema": "x"})
