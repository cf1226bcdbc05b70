"""Figures of sweeps: what each penalty gives over a range of coefficients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from trueup.measure.scored import Estimate
from trueup.report.canvas import MUTED, NARROW, PAPER, PHONE, SMALL, WIDE, Box, Canvas, key_height, look
from trueup.report.text import shorten

__all__ = ["NARROW", "WIDE", "CoefficientPanel", "coefficient_sweeps"]

_HEAD, _FOOT, _LEFT, _BODY = 50, 50, 50, 220


@dataclass(frozen=True, kw_only=True)
class CoefficientPanel:
    """One panel.

    Args:
        coefficient: Coefficients, positive.
        curves: By penalty, an estimate at each coefficient.
        level: Height of a line that all curves are compared with.
        level_name: What that line is.
    """

    coefficient: Sequence[float]
    curves: Mapping[str, Sequence[Estimate]]
    level: float
    level_name: str


def coefficient_sweeps(
    panels: Mapping[str, CoefficientPanel], *, unit: str, coefficient_unit: str, width: int = WIDE
) -> str:
    """Panels over coefficients on a logarithmic axis, with bands.

    Args:
        panels: By name; all have the penalties of the first.
        unit: What stands on the vertical axis.
        coefficient_unit: What stands below the horizontal axis.
        width: Width in pixels.
    """
    names = tuple(next(iter(panels.values())).curves)
    columns = 1 if width < PHONE else min(2, len(panels))
    key, cell, height = key_height(names, width=width), width / columns, _HEAD + _BODY + _FOOT
    canvas = Canvas(width, key + height * -(-len(panels) // columns))
    canvas.key(names, top=0)
    for place, (name, panel) in enumerate(panels.items()):
        left, top = cell * (place % columns), key + height * (place // columns)
        canvas.text(shorten(name, int(cell / 8.4)), at=(left + 8, top + 14), bold=True)
        canvas.text(unit, at=(left + 8, top + 34), colour=MUTED, size=SMALL)
        axes = canvas.panel(Box(left + _LEFT, top + _HEAD, cell - _LEFT - 20, _BODY))
        _curves(axes, panel)
        axes.set_xlabel(coefficient_unit, color=MUTED, fontsize=SMALL)
    return canvas.svg()


def _curves(axes: Axes, panel: CoefficientPanel) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(MaxNLocator(1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for turn, estimates in enumerate(panel.curves.values()):
        style = look(turn)
        mean, low, high = ([getattr(one, end) for one in estimates] for end in ("value", "low", "high"))
        axes.fill_between(panel.coefficient, low, high, color=style.colour, alpha=0.15, lw=0)
        axes.plot(panel.coefficient, mean, color=style.colour, ls=style.dash, lw=2)
        dots = axes.scatter(panel.coefficient, mean, s=16, marker=style.marker, color=style.colour, ec=PAPER, lw=0.5)
        dots.set_zorder(3)
    axes.axhline(panel.level, color=MUTED, lw=1, ls=(0, (1, 2)))
    axes.text(0, panel.level, f" {panel.level_name}", color=MUTED, fontsize=SMALL, ha="left", va="top",
              transform=axes.get_yaxis_transform())  # fmt: skip
