"""How often at least one of k answers is right, against k."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from trueup.measure.scored import Estimate
from trueup.report.canvas import MUTED, PAPER, PHONE, SMALL, WIDE, Box, Canvas, key_height, look, percent_ticks

_HEAD, _BODY, _FOOT, _LEFT = 34, 250, 50, 56


@dataclass(frozen=True)
class Passing:
    """pass@k of one policy.

    Args:
        k: Numbers of samples, ascending.
        rate: Share of problems of which at least one of k samples is right.
    """

    k: Sequence[int]
    rate: Sequence[Estimate]


def passing(curves: Mapping[str, Passing], *, width: int = WIDE) -> str:
    """One line with its band for each policy; k on a logarithmic scale.

    Args:
        curves: By policy.
        width: Width in pixels.
    """
    names = tuple(curves)
    key = key_height(names, width=width) if len(names) > 1 else 0
    canvas = Canvas(width, key + _HEAD + _BODY + _FOOT)
    if key:
        canvas.key(names, top=0)
    canvas.text("problems of which one of k samples is right", at=(8, key + 12), colour=MUTED, size=SMALL)
    axes = canvas.panel(Box(_LEFT, key + _HEAD, width - _LEFT - 24, _BODY))
    sizes = sorted({k for curve in curves.values() for k in curve.k})
    _axes(axes, sizes, most=4 if width < PHONE else 9)
    for turn, curve in enumerate(curves.values()):
        _curve(axes, curve, turn=turn)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))
    return canvas.svg()


def _axes(axes: Axes, sizes: Sequence[int], *, most: int) -> None:
    axes.set_xscale("log", base=2)
    ends = (min(sizes, default=1), max(sizes, default=1))
    axes.set_xlim(ends[0] / 1.12, ends[1] * 1.12)
    # powers of two stand evenly; the last size, where it is none, would stand on its neighbour
    even = [k for k in sizes if k & (k - 1) == 0]
    step = math.ceil(len(even) / most)
    axes.xaxis.set_major_locator(FixedLocator(even[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_ticks))
    axes.set_xlabel("k, samples of a problem", color=MUTED, fontsize=SMALL)


def _curve(axes: Axes, curve: Passing, *, turn: int) -> None:
    style = look(turn)
    low, mean, high = (np.array([getattr(one, end) for one in curve.rate]) for end in ("low", "value", "high"))
    axes.fill_between(curve.k, low, high, color=style.colour, alpha=0.16, lw=0)
    axes.plot(curve.k, mean, color=style.colour, ls=style.dash, lw=2)
    dots = axes.scatter(curve.k, mean, s=30, marker=style.marker, color=style.colour, ec=PAPER, lw=0.8)
    dots.set_zorder(3)
    dots.set_clip_on(False)
