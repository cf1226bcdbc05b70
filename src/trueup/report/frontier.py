"""Figures of watched runs: reward and gold against distance, and what drifts over steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from trueup.measure.scored import Estimate
from trueup.report.canvas import INK, MUTED, PAPER, PHONE, SMALL, WIDE, Box, Canvas, key_height, look, rows_of
from trueup.report.curves import DISTANCE, SHORT_DISTANCE
from trueup.report.text import shorten

_HEAD, _FOOT, _LEFT, _BODY = 44, 50, 50, 232


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """One run against distance.

    Args:
        d: Distance at each watched point, sqrt(nats).
        values: What is drawn there, with intervals.
        law: Fitted `alpha` and `beta` of `d (alpha - beta log d)` in the same unit, or None.
        peak: Where the law's peak is, sqrt(nats), if the data show one.
    """

    d: Sequence[float]
    values: Sequence[Estimate]
    law: tuple[float, float] | None = None
    peak: Estimate | None = None


def frontiers(panels: Mapping[str, Mapping[str, Frontier]], *, unit: str, width: int = WIDE) -> str:
    """Several runs in one picture, one panel for each quantity: reward against distance.

    Args:
        panels: By quantity, such as "gold", then by run.
        unit: Unit of the vertical axes.
        width: Width in pixels.
    """
    names = rows_of(panels)
    columns = 1 if width < PHONE else min(2, len(panels))
    key = key_height(names, width=width)
    cell, height = width / columns, _HEAD + _BODY + _FOOT
    canvas = Canvas(width, key + height * math.ceil(len(panels) / columns))
    canvas.key(names, top=0)
    for place, (quantity, runs) in enumerate(panels.items()):
        left, top = cell * (place % columns), key + height * (place // columns)
        canvas.text(f"{quantity}: {unit}", at=(left + 8, top + 14), colour=MUTED, size=SMALL)
        axes = canvas.panel(Box(left + _LEFT, top + _HEAD, cell - _LEFT - 20, _BODY))
        axes.set_xlabel(DISTANCE if cell > 600 else SHORT_DISTANCE, color=MUTED, fontsize=SMALL)
        axes.axhline(0, color=MUTED, lw=0.8)
        for turn, name in enumerate(names):
            if name in runs:
                _points(axes, runs[name].d, runs[name].values, turn=turn)
                _law(axes, runs[name])
    return canvas.svg()


def over_steps(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[Estimate]]]], *, width: int = WIDE
) -> str:
    """What changes over the steps of several runs: one panel for each quantity, one line for each run.

    Args:
        panels: By quantity, then by run: steps and values.
        width: Width in pixels.
    """
    names = rows_of(panels)
    columns = 1 if width < PHONE or len(panels) < 2 else 2
    key = key_height(names, width=width) if len(names) > 1 else 0
    cell, body = width / columns, 140
    height = _HEAD + body + _FOOT - 8
    canvas = Canvas(width, key + height * math.ceil(len(panels) / columns))
    if key:
        canvas.key(names, top=0)
    for place, (quantity, runs) in enumerate(panels.items()):
        left, top = cell * (place % columns), key + height * (place // columns)
        canvas.text(shorten(quantity, int(cell / 8.4)), at=(left + 8, top + 14), bold=True)
        axes = canvas.panel(Box(left + _LEFT + 6, top + _HEAD - 10, cell - _LEFT - 26, body))
        axes.set_xlabel("step", color=MUTED, fontsize=SMALL)
        for turn, name in enumerate(names):
            if name in runs:
                _line(axes, *runs[name], turn=turn)
    return canvas.svg()


def _finite(values: Sequence[Estimate], end: Callable[[Estimate], float]) -> np.ndarray:
    array = np.array([end(one) for one in values], float)
    return np.where(np.isfinite(array), array, np.nan)


def _line(axes: Axes, steps: Sequence[float], values: Sequence[Estimate], *, turn: int) -> None:
    style = look(turn)
    low, mean, high = (
        _finite(values, end) for end in (lambda one: one.low, lambda one: one.value, lambda one: one.high)
    )
    axes.fill_between(steps, low, high, color=style.colour, alpha=0.18, lw=0)
    axes.plot(steps, mean, color=style.colour, ls=style.dash, lw=2)
    axes.scatter(steps, mean, s=12, marker=style.marker, color=style.colour, ec=PAPER, lw=0.5).set_zorder(3)


def _points(axes: Axes, d: Sequence[float], values: Sequence[Estimate], *, turn: int) -> None:
    """Points in the order of steps, each with its interval: a run may come back to where it was."""
    style = look(turn)
    mean, low, high = (
        _finite(values, end) for end in (lambda one: one.value, lambda one: one.low, lambda one: one.high)
    )
    axes.vlines(d, low, high, color=style.colour, alpha=0.35, lw=2)
    axes.plot(d, mean, color=style.colour, ls=style.dash, lw=1.4, alpha=0.8)
    axes.scatter(d, mean, s=20, marker=style.marker, color=style.colour, ec=PAPER, lw=0.5).set_zorder(3)


def _law(axes: Axes, run: Frontier) -> None:
    """The fitted law, and its peak with the interval of where it is."""
    known = [one for one in run.d if math.isfinite(one)]
    if run.law is None or not known or max(known) <= 0:
        return
    alpha, beta = run.law
    d = np.linspace(max(known) / 200, max(known), 120)
    axes.plot(d, d * (alpha - beta * np.log(d)), color=INK, lw=1.3, ls=(0, (1, 2)))
    if run.peak is None or not 0 < run.peak.value <= max(known):
        return
    at = run.peak.value
    height = at * (alpha - beta * math.log(at))
    low, high = (end if math.isfinite(end) else at for end in (run.peak.low, run.peak.high))
    axes.plot([max(low, 0), min(high, max(known))], [height, height], color=INK, lw=2)
    axes.scatter([at], [height], s=44, marker="D", color=INK, ec=PAPER, lw=0.8).set_zorder(4)
