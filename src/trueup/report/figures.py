"""Figures of the report: mappings of numbers in, one SVG element out.

Every figure is drawn at the width at which it will be shown (`WIDE` on a screen, `NARROW` on a phone), so
that its words keep their size. Equal inputs give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from trueup.report.canvas import (
    GRID,
    INK,
    MUTED,
    NARROW,
    PAPER,
    PHONE,
    SMALL,
    WIDE,
    Box,
    Canvas,
    key_height,
    look,
    percent_ticks,
    rows_of,
)
from trueup.report.dots import Scale, forest, length_bias, win_rates
from trueup.report.text import shorten

_FOOT = 46

Curves = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]

__all__ = [
    "NARROW",
    "WIDE",
    "Curve",
    "Histogram",
    "Scale",
    "forest",
    "histograms",
    "length_bias",
    "reliability",
    "training_curves",
    "win_rates",
]


@dataclass(frozen=True)
class Histogram:
    """Counts between consecutive edges."""

    edges: Sequence[float]
    counts: Sequence[float]

    @property
    def density(self) -> np.ndarray:
        """Share of the total per unit of the horizontal axis; zeros where nothing was counted."""
        counts = np.asarray(self.counts, float)
        widths = np.diff(np.asarray(self.edges, float))
        return counts / max(counts.sum(), 1) / np.where(widths > 0, widths, 1)

    @property
    def mean(self) -> float:
        """Mean of the bins' middles; NaN where nothing was counted."""
        edges, counts = np.asarray(self.edges, float), np.asarray(self.counts, float)
        return float(((edges[1:] + edges[:-1]) / 2) @ counts / counts.sum()) if counts.sum() else math.nan


@dataclass(frozen=True)
class Curve:
    """Values of one quantity over the steps of a run."""

    steps: Sequence[float]
    values: Sequence[float]


def histograms(panels: Mapping[str, Mapping[str, Histogram]], label: str, *, width: int = WIDE) -> str:
    """Distributions as ridges: one panel for each model, one ridge for each split, a line at each mean.

    Args:
        panels: By model, then by split. Each panel has its own horizontal scale; areas are equal.
        label: What is counted, with its unit.
        width: Width in pixels.
    """
    columns = 1 if width < PHONE else min(2, len(panels))
    ridges = max((len(panel) for panel in panels.values()), default=1)
    cell_width, body = width / columns, 58 * ridges
    cell_height = 30 + body + _FOOT
    canvas = Canvas(width, cell_height * math.ceil(len(panels) / columns))
    for place, (name, panel) in enumerate(panels.items()):
        left, top = cell_width * (place % columns), cell_height * (place // columns)
        canvas.text(shorten(name, 34), at=(left + 8, top + 14), bold=True)
        box = Box(left + 8, top + 30, cell_width - 24, body)
        axes = canvas.panel(box, ticks=5)
        axes.grid(False, axis="y")
        axes.set_yticks([])
        axes.set_xlabel(label, color=MUTED, fontsize=SMALL)
        _ridges(canvas, axes, panel, turn=place, body=body, box=box)
    return canvas.svg()


def _ridges(canvas: Canvas, axes: Axes, panel: Mapping[str, Histogram], *, turn: int, body: float, box: Box) -> None:
    peak = max((float(h.density.max(initial=0)) for h in panel.values()), default=0) or 1
    colour, step = look(turn).colour, body / max(len(panel), 1)
    for place, (split, histogram) in enumerate(panel.items()):
        base, tall = body - (place + 1) * step, (step - 22) / peak
        edges, heights = np.asarray(histogram.edges, float), histogram.density * tall + base
        axes.axhline(base, color=GRID, lw=0.8)
        axes.stairs(heights, edges, baseline=base, fill=True, color=colour, alpha=0.25, lw=0)
        axes.stairs(heights, edges, baseline=base, color=colour, lw=1.4)
        if math.isfinite(histogram.mean):
            axes.plot([histogram.mean] * 2, [base, base + step - 22], color=INK, lw=1.2)
        above = (box.left, box.top + body - base - step + 9)
        canvas.text(shorten(split, 26), at=above, size=SMALL, colour=MUTED)
    axes.set_ylim(0, body)


def reliability(curves: Curves, *, width: int = WIDE) -> str:
    """Calibration: how often the preferred answer is right, against how sure the model was.

    Args:
        curves: By model, then by split: points with `confidence`, `accuracy`, `n` and, where known, the
            interval `low` to `high` of the accuracy. A dot's area grows with its number of pairs.
        width: Width in pixels.
    """
    splits = rows_of(curves)
    columns = min(len(splits), 2 if width < PHONE else 3) or 1
    key = key_height(tuple(curves), width=width) if len(curves) > 1 else 0
    cell = min(width / columns, 340)
    side, room = cell - 60, 96
    canvas = Canvas(width, key + math.ceil(len(splits) / columns) * (side + room))
    if key:
        canvas.key(tuple(curves), top=0)
    low, most = _lowest(curves), max((point["n"] for point in _points(curves)), default=1)
    for place, split in enumerate(splits):
        left, top = cell * (place % columns) + 44, key + (side + room) * (place // columns)
        canvas.text(shorten(split, int(cell / 8.4)), at=(left - 40, top + 14), bold=True)
        axes = canvas.panel(Box(left, top + 32, side, side))
        _calibration_axes(axes, low)
        for turn, series in enumerate(curves.values()):
            _calibration_curve(axes, series.get(split) or (), turn=turn, most=most)
    return canvas.svg()


def _points(curves: Curves) -> list[Mapping[str, float]]:
    return [point for series in curves.values() for curve in series.values() for point in curve if point["n"]]


def _lowest(curves: Curves) -> tuple[float, float]:
    """Where the axes of confidence and accuracy begin."""
    points = _points(curves)
    confidence = min((point["confidence"] for point in points), default=0.5)
    accuracy = min((point["accuracy"] for point in points), default=0.5)
    return 0.5 if confidence >= 0.5 else 0.0, max(math.floor(10 * min(accuracy, 0.5)) / 10, 0)


def _calibration_axes(axes: Axes, low: tuple[float, float]) -> None:
    axes.plot([0, 1], [0, 1], color=INK, lw=1.1, ls=(0, (4, 3)))
    axes.set_xlim(low[0] - 0.01, 1.01)
    axes.set_ylim(low[1] - 0.01, 1.01)
    axes.xaxis.set_major_locator(FixedLocator([low[0], (low[0] + 1) / 2, 1.0]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(percent_ticks))
    axes.set_xlabel("confidence", color=MUTED, fontsize=SMALL)


def _calibration_curve(axes: Axes, points: Sequence[Mapping[str, float]], *, turn: int, most: float) -> None:
    style = look(turn)
    filled = [point for point in points if point["n"] and math.isfinite(point["accuracy"])]
    confidence, accuracy = ([point[name] for point in filled] for name in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, color=style.colour, ls=style.dash, lw=1.6)
    for point in filled:
        ends = [point.get("low", math.nan), point.get("high", math.nan)]
        if all(math.isfinite(end) for end in ends):
            axes.plot([point["confidence"]] * 2, ends, color=style.colour, lw=1.2, alpha=0.35)
    areas = [16 + 40 * point["n"] / most for point in filled]
    dots = axes.scatter(confidence, accuracy, s=areas, marker=style.marker, color=style.colour, ec=PAPER, lw=0.8)
    dots.set_zorder(3)
    dots.set_clip_on(False)


def training_curves(runs: Mapping[str, Mapping[str, Curve]], *, width: int = WIDE) -> str:
    """A training: one panel for each quantity (loss, accuracy, reward spread), one line for each run.

    Args:
        runs: By run, then by quantity: values over optimiser steps. Values that are not finite leave a gap.
        width: Width in pixels.
    """
    quantities = rows_of(runs)
    columns = 1 if width < PHONE else min(3, len(quantities)) or 1
    key = key_height(tuple(runs), width=width) if len(runs) > 1 else 0
    cell, height = width / columns, 236 if columns > 1 else 208
    canvas = Canvas(width, key + height * math.ceil(len(quantities) / columns))
    if key:
        canvas.key(tuple(runs), top=0)
    for place, quantity in enumerate(quantities):
        left, top = cell * (place % columns), key + height * (place // columns)
        canvas.text(shorten(quantity), at=(left + 8, top + 14), bold=True)
        axes = canvas.panel(Box(left + 50, top + 30, cell - 66, height - 30 - _FOOT), ticks=4)
        axes.set_xlabel("optimiser step", color=MUTED, fontsize=SMALL)
        for turn, curves in enumerate(runs.values()):
            if curve := curves.get(quantity):
                values = np.where(np.isfinite(np.asarray(curve.values, float)), curve.values, np.nan)
                axes.plot(curve.steps, values, color=look(turn).colour, ls=look(turn).dash, lw=1.8)
        _room(axes, [curves[quantity] for curves in runs.values() if curves.get(quantity)])
    return canvas.svg()


def _room(axes: Axes, curves: Sequence[Curve]) -> None:
    """Limits for a run of a single step or a quantity that never changes."""
    values = np.concatenate([np.asarray(curve.values, float) for curve in curves])
    steps = np.concatenate([np.asarray(curve.steps, float) for curve in curves])
    for known, set_limits in ((values[np.isfinite(values)], axes.set_ylim), (steps, axes.set_xlim)):
        if len(known) and known.min() == known.max():
            set_limits(known.min() - 0.5, known.max() + 0.5)
