"""Dot figures: a point and its interval for each row and model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from trueup.measure.scored import Estimate
from trueup.report.canvas import (
    INK,
    MUTED,
    PAPER,
    PHONE,
    SHADE,
    SMALL,
    WIDE,
    Box,
    Canvas,
    key_height,
    look,
    percent_ticks,
    rows_of,
    text_width,
)
from trueup.report.text import DASH, Style, number, shorten

_ROW, _GAP, _FOOT = 21, 13, 46

Estimates = Mapping[str, Mapping[str, Estimate | None]]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The horizontal axis of a dot figure.

    Args:
        label: What is measured, with its unit.
        limits: Ends of the axis; None fits them to the data.
        reference: Where a line is drawn: chance, zero, or what good looks like.
        name: Words at the reference line, above the rows.
        left: Words left of it.
        right: Words right of it; that side is shaded where they are given.
        style: How numbers are written.
        digits: Digits after the point.
    """

    label: str
    limits: tuple[float, float] | None = None
    reference: float | None = None
    name: str = ""
    left: str = ""
    right: str = ""
    style: Style = "number"
    digits: int = 2


def forest(estimates: Estimates, scale: Scale, *, width: int = WIDE) -> str:
    """One row for each split and model: a point, its interval, and the number in words.

    Args:
        estimates: By series (model), then by row (split); None or NaN prints a dash.
        scale: The horizontal axis.
        width: Width in pixels.
    """
    rows = rows_of(estimates)
    phone = width < PHONE
    left, right = (8, 56) if phone else (_label_width(rows), 64)
    key = key_height(tuple(estimates), width=width) if len(estimates) > 1 else 0
    notes = 24 if scale.left or scale.right or scale.name else 6
    block = len(estimates) * _ROW + _GAP + (20 if phone else 0)
    height = len(rows) * block
    canvas = Canvas(width, key + notes + height + _FOOT)
    if key:
        canvas.key(tuple(estimates), top=0)
    box = Box(left, key + notes, width - left - right, height)
    axes = _dot_axes(canvas, box, replace(scale, limits=scale.limits or _limits(estimates, scale)))
    _side_notes(canvas, box, axes, scale)
    for place, row in enumerate(rows):
        top = place * block
        canvas.text(shorten(row, 40 if phone else 30), at=(left if phone else left - 12, box.top + top + (
            11 if phone else block / 2)), align="left" if phone else "right")  # fmt: skip
        first = top + (20 if phone else 0) + _GAP / 2 + _ROW / 2
        for turn, series in enumerate(estimates.values()):
            _dot(canvas, axes, series.get(row), turn=turn, y=first + turn * _ROW, scale=scale)
    return canvas.svg()


def win_rates(rates: Estimates, *, width: int = WIDE) -> str:
    """The hack battery: how often each edit beats the original answer, worst on average first, with the 50% line.

    Args:
        rates: By model, then by hack: the edit's win rate in [0, 1].
        width: Width in pixels.
    """
    worst = sorted(rows_of(rates), key=lambda row: (-_mean(rates, row), row))
    ordered = {name: {row: series.get(row) for row in worst} for name, series in rates.items()}
    scale = Scale(
        label="share of answers in which the edited one gets the higher reward",
        limits=(0, 1), reference=0.5, style="percent", left="keeps the original", right="prefers the edit",
    )  # fmt: skip
    if width < PHONE:
        scale = replace(scale, label="edited answer gets the higher reward")
    return forest(ordered, scale, width=width)


def length_bias(correlations: Estimates, *, width: int = WIDE) -> str:
    """Spearman correlation of reward and length within prompts, by model and split, with the zero line."""
    scale = Scale(
        label="rank correlation of reward and length", limits=_symmetric(correlations), reference=0.0,
        style="signed", left="prefers shorter", right="prefers longer",
    )  # fmt: skip
    return forest(correlations, scale, width=width)


def _finite(estimate: Estimate | None) -> bool:
    return estimate is not None and math.isfinite(estimate.value)


def _mean(estimates: Estimates, row: str) -> float:
    values = [e.value for series in estimates.values() if (e := series.get(row)) is not None and _finite(e)]
    return sum(values) / len(values) if values else -math.inf


def _ends(estimates: Estimates) -> list[float]:
    every = [e for series in estimates.values() for e in series.values() if e is not None and _finite(e)]
    return [end for e in every for end in (e.value, e.low, e.high) if math.isfinite(end)]


def _limits(estimates: Estimates, scale: Scale) -> tuple[float, float]:
    ends = _ends(estimates) + ([scale.reference] if scale.reference is not None else [])
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _symmetric(estimates: Estimates) -> tuple[float, float]:
    reach = min(max((abs(end) for end in _ends(estimates)), default=0.5) * 1.15 + 0.02, 1.0)
    return -reach, reach


def _label_width(rows: Sequence[str]) -> float:
    return min(max((7.8 * min(len(row), 30) for row in rows), default=40) + 24, 250)


def _dot_axes(canvas: Canvas, box: Box, scale: Scale) -> Axes:
    axes = canvas.panel(box)
    axes.set_ylim(box.height, 0)
    axes.set_yticks([])
    axes.set_xlim(*(scale.limits or (0, 1)))
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5 if canvas.width > PHONE else 4))
    if scale.style == "percent":
        axes.xaxis.set_major_formatter(FuncFormatter(percent_ticks))
    axes.set_xlabel(scale.label, color=MUTED, fontsize=SMALL, labelpad=6)
    if scale.reference is not None:
        axes.axvline(scale.reference, color=INK, lw=1.1, ls=(0, (4, 3)))
        if scale.right:
            axes.axvspan(scale.reference, axes.get_xlim()[1], color=SHADE, lw=0, zorder=0)
    return axes


def _side_notes(canvas: Canvas, box: Box, axes: Axes, scale: Scale) -> None:
    if scale.reference is None:
        return
    low, high = axes.get_xlim()
    x = box.left + box.width * (scale.reference - low) / (high - low)
    if scale.name:
        middle = max(x, text_width(scale.name, SMALL) / 2 + 2)
        canvas.text(scale.name, at=(middle, box.top - 12), align="center", size=SMALL, colour=MUTED)
    for words, shift, align in ((scale.left, -7, "right"), (scale.right, 7, "left")):
        if words:
            arrow = f"{words} →" if shift > 0 else f"← {words}"
            canvas.text(arrow, at=(x + shift, box.top - 12), align=align, size=SMALL, colour=MUTED)


def _dot(canvas: Canvas, axes: Axes, estimate: Estimate | None, *, turn: int, y: float, scale: Scale) -> None:
    style = look(turn)
    words, height = DASH, canvas.height * (1 - axes.get_position().y1) + y
    if estimate is not None and math.isfinite(estimate.value):
        words = number(estimate.value, scale.style, digits=scale.digits)
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            ends = [estimate.low, estimate.high]
            axes.plot(ends, [y, y], color=style.colour, lw=2.4, solid_capstyle="round")
        point = axes.plot([estimate.value], [y], style.marker, color=style.colour, ms=9, clip_on=False)[0]
        point.set_markeredgecolor(PAPER)
        point.set_markeredgewidth(1.2)
    canvas.text(words, at=(canvas.width - 6, height), align="right")
