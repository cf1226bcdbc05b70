"""Fronts of two rewards, as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trueup.report.canvas import MUTED, PAPER, SMALL, WIDE, Box, Canvas, key_height, look

_HEAD, _FOOT, _LEFT, _BODY = 44, 50, 50, 260

Point = tuple[float, float]
"""First and second reward."""


@dataclass(frozen=True, kw_only=True)
class FrontPanel:
    """One panel.

    Args:
        title: What it shows.
        axes: Names of the first and of the second reward.
        fronts: By method, the points of its front in the order of their weights.
    """

    title: str
    axes: tuple[str, str]
    fronts: Mapping[str, Sequence[Point]]


def front_figure(panels: Sequence[FrontPanel], *, width: int = WIDE) -> str:
    """Fronts side by side; methods keep their look in all panels."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.fronts))
    key, cell = key_height(names, width=width), width / len(panels)
    canvas = Canvas(width, key + _HEAD + _BODY + _FOOT)
    canvas.key(names, top=0)
    for place, panel in enumerate(panels):
        left = cell * place
        canvas.text(panel.title, at=(left + 8, key + 14), bold=True)
        canvas.text(panel.axes[1], at=(left + 8, key + 32), colour=MUTED, size=SMALL)
        axes = canvas.panel(Box(left + _LEFT, key + _HEAD, cell - _LEFT - 20, _BODY))
        axes.set_xlabel(panel.axes[0], color=MUTED, fontsize=SMALL)
        for name, points in panel.fronts.items():
            style = look(names.index(name))
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=style.colour, ls=style.dash, lw=1.6)
            dots = axes.scatter(x, y, s=20, marker=style.marker, color=style.colour, ec=PAPER, lw=0.5)
            dots.set_zorder(3)
    return canvas.svg()
