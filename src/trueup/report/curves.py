"""Figures of over-optimisation: gold, proxy and drift against the distance from the base policy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from trueup.measure.scored import Estimate
from trueup.report.canvas import (
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
    rows_of,
    text_width,
)
from trueup.report.text import number, shorten

__all__ = ["NARROW", "WIDE", "OptimizationCurve", "drift", "gold_and_proxy", "gold_overlay"]

DISTANCE = "distance from the base policy: square root of KL (sqrt nats)"
SHORT_DISTANCE = "square root of KL (sqrt nats)"
GAIN = "std above n = 1"
GOLD, PROXY = "gold", "the proxy itself"

_HEAD, _FOOT, _LEFT = 66, 50, 50
_BODY = 232


@dataclass(frozen=True, kw_only=True)
class OptimizationCurve:
    """What best-of-n by one proxy does.

    Args:
        n: Sizes.
        d: Distance at each size, sqrt(nats).
        proxy: The proxy's gain over n = 1 in its standard deviations within a prompt.
        gold: Gold's gain in gold's; empty where there is no gold.
        law: The fitted `alpha` and `beta` in the same unit, or None.
        peak: Where the law's peak is, sqrt(nats), if the data show one.
        verdict: What the data say about a peak, in a few words.
    """

    n: Sequence[int]
    d: Sequence[float]
    proxy: Sequence[Estimate]
    gold: Sequence[Estimate] = ()
    law: tuple[float, float] | None = None
    peak: Estimate | None = None
    verdict: str = ""

    @property
    def end(self) -> float:
        """The largest distance."""
        return max(self.d)


def gold_and_proxy(curves: Mapping[str, OptimizationCurve], *, width: int = WIDE) -> str:
    """One panel for each proxy: its own score, gold with its band, the fitted law and the peak with its interval.

    Args:
        curves: By proxy. All panels share their scales.
        width: Width in pixels.
    """
    columns = 1 if width < PHONE else min(2, len(curves))
    lines = (GOLD, PROXY) if any(curve.gold for curve in curves.values()) else (PROXY,)
    key = key_height(lines, width=width)
    cell, height = width / columns, _HEAD + _BODY + _FOOT
    canvas = Canvas(width, key + height * math.ceil(len(curves) / columns))
    canvas.key(lines, top=0)
    limits = _limits([one for curve in curves.values() for one in (*curve.proxy, *curve.gold)])
    for place, (name, curve) in enumerate(curves.items()):
        left, top = cell * (place % columns), key + height * (place // columns)
        wide = cell - _LEFT - 20
        words = shorten(name, max(int((cell - text_width(curve.verdict, SMALL) - 30) / 8.4), 8))
        canvas.text(words, at=(left + 8, top + 14), bold=True)
        canvas.text(GAIN, at=(left + 8, top + 36), colour=MUTED, size=SMALL)
        canvas.text(curve.verdict, at=(left + cell - 20, top + 14), colour=MUTED, size=SMALL, align="right")
        box = Box(left + _LEFT, top + _HEAD, wide, _BODY)
        axes = _distance_axes(canvas, box, n=curve.n, d=curve.d)
        axes.set_ylim(*limits)
        axes.axhline(0, color=MUTED, lw=0.8)
        for turn, values in enumerate((curve.gold, curve.proxy) if len(lines) == 2 else (curve.proxy,)):
            _line(axes, curve.d, values, turn=turn)
        _law(axes, curve)
    return canvas.svg()


def gold_overlay(curves: Mapping[str, OptimizationCurve], *, width: int = WIDE) -> str:
    """Gold of all proxies in one panel, with their bands.

    Args:
        curves: By proxy; those without gold are left out.
        width: Width in pixels.
    """
    shown = {name: curve for name, curve in curves.items() if curve.gold}
    key = key_height(tuple(shown), width=width)
    canvas = Canvas(width, key + _HEAD - 20 + _BODY + _FOOT)
    canvas.key(tuple(shown), top=0)
    canvas.text(GAIN, at=(8, key + 14), colour=MUTED, size=SMALL)
    longest = max(shown.values(), key=lambda curve: curve.end)
    box = Box(_LEFT, key + _HEAD - 20, width - _LEFT - 20, _BODY)
    axes = _distance_axes(canvas, box, n=longest.n, d=longest.d)
    axes.set_ylim(*_limits([one for curve in shown.values() for one in curve.gold]))
    axes.axhline(0, color=MUTED, lw=0.8)
    for turn, curve in enumerate(shown.values()):
        _line(axes, curve.d, curve.gold, turn=turn)
    return canvas.svg()


def drift(
    signals: Mapping[str, Mapping[str, Sequence[Estimate]]],
    *,
    n: Sequence[int],
    d: Sequence[float],
    width: int = WIDE,
) -> str:
    """How what is chosen changes, told without gold: one panel for each signal, one line for each proxy.

    Args:
        signals: By proxy, then by signal: its mean among chosen responses at each size.
        n: Sizes.
        d: Distance at each size, sqrt(nats).
        width: Width in pixels.
    """
    names = rows_of(signals)
    columns = 1 if width < PHONE or len(names) < 2 else 2
    key = key_height(tuple(signals), width=width) if len(signals) > 1 else 0
    cell, body = width / columns, 150
    height = _HEAD + body + _FOOT
    canvas = Canvas(width, key + height * max(math.ceil(len(names) / columns), 1))
    if key:
        canvas.key(tuple(signals), top=0)
    for place, name in enumerate(names):
        left, top = cell * (place % columns), key + height * (place // columns)
        canvas.text(shorten(name, int(cell / 8.4)), at=(left + 8, top + 14), bold=True)
        axes = _distance_axes(canvas, Box(left + _LEFT, top + _HEAD, cell - _LEFT - 20, body), n=n, d=d)
        axes.set_ylim(*_limits([one for by_name in signals.values() for one in by_name.get(name, ())]))
        for turn, by_name in enumerate(signals.values()):
            _line(axes, d, by_name.get(name, ()), turn=turn)
    return canvas.svg()


def _distance_axes(canvas: Canvas, box: Box, *, n: Sequence[int], d: Sequence[float]) -> Axes:
    """A panel with distance below and n above."""
    axes = canvas.panel(box)
    end = max(d) or 1.0
    axes.set_xlim(0, end * 1.02)
    wanted = DISTANCE if text_width(DISTANCE, SMALL) < box.width + 40 else SHORT_DISTANCE
    axes.set_xlabel(wanted, color=MUTED, fontsize=SMALL)
    scale = box.width / (end * 1.02)
    canvas.text("best of n", at=(box.left + box.width / 2, box.top - 30), colour=MUTED, size=SMALL, align="center")
    for place, words in _size_ticks(n, d, scale=scale):
        x = box.left + place * scale
        canvas.paper.plot([x, x], [box.top - 5, box.top - 1], color=MUTED, lw=0.8)
        canvas.text(words, at=(x, box.top - 14), colour=MUTED, size=SMALL, align="center")
    return axes


def _size_ticks(n: Sequence[int], d: Sequence[float], *, scale: float) -> list[tuple[float, str]]:
    """Places and words of sizes that stand apart: the largest first, then as many others as fit."""
    kept: list[tuple[float, str]] = []
    last = len(n) - 1
    order = [last, 0, *(k for k in range(1, last) if n[k] & (n[k] - 1) == 0)]
    for k in dict.fromkeys(order):
        words = number(n[k], "count")
        room = [abs(d[k] - place) * scale - (text_width(words, SMALL) + text_width(other, SMALL)) / 2
                for place, other in kept]  # fmt: skip
        if all(gap > 6 for gap in room):
            kept.append((d[k], words))
    return sorted(kept)


def _line(axes: Axes, d: Sequence[float], values: Sequence[Estimate], *, turn: int) -> None:
    """A mean with its band; what is not finite leaves a gap."""
    if not values:
        return
    style = look(turn)
    mean, low, high = (_finite([getattr(one, end) for one in values]) for end in ("value", "low", "high"))
    axes.fill_between(d, low, high, color=style.colour, alpha=0.18, lw=0)
    axes.plot(d, mean, color=style.colour, ls=style.dash, lw=2)
    dots = axes.scatter(d, mean, s=16, marker=style.marker, color=style.colour, ec=PAPER, lw=0.5)
    dots.set_zorder(3)


def _law(axes: Axes, curve: OptimizationCurve) -> None:
    """The fitted law, and its peak with the interval of where it is."""
    if curve.law is None:
        return
    alpha, beta = curve.law
    d = np.linspace(0, curve.end, 120)
    axes.plot(d, d * (alpha - beta * d), color=INK, lw=1.3, ls=(0, (1, 2)))
    if curve.peak is None or not 0 <= curve.peak.value <= curve.end:
        return
    at, height = curve.peak.value, curve.peak.value * (alpha - beta * curve.peak.value)
    low, high = (end if math.isfinite(end) else at for end in (curve.peak.low, curve.peak.high))
    axes.plot([max(low, 0), min(high, curve.end)], [height, height], color=INK, lw=2)
    axes.scatter([at], [height], s=44, marker="D", color=INK, ec=PAPER, lw=0.8).set_zorder(4)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.where(np.isfinite(array), array, np.nan)


def _limits(values: Sequence[Estimate]) -> tuple[float, float]:
    """Room for every point and band."""
    every = [end for one in values for end in (one.value, one.low, one.high) if math.isfinite(end)]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room
