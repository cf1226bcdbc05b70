"""A sheet on which figures are drawn in pixels, in colours that the page decides for light and dark."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trueup.report.svg import clean
from trueup.report.text import number, shorten

TEXT, SMALL = 13, 12
# Drawings are made for a screen and for a phone; what is narrower than PHONE stacks.
WIDE, NARROW, PHONE = 880, 344, 500

# Stand-ins that `clean` turns into the page's own colours.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SHADE = "#050505"
# Told apart by people with any colour vision, and by marker and dash as well.
SERIES = ("#0b63b0", "#c2500a", "#0b7d62", "#8f4a93", "#86660a", "#5b6470")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 2)), (0, (2, 2)), (0, (7, 2, 2, 2)), (0, (1, 1)), (0, (9, 3)))

_COLOURS: Mapping[str, str] = {
    INK: "currentColor",
    MUTED: "var(--muted, #555e6b)",
    GRID: "var(--grid, #dde1e7)",
    PAPER: "var(--paper, #ffffff)",
    SHADE: "var(--shade, #f3e9e2)",
} | {colour: f"var(--series-{place}, {colour})" for place, colour in enumerate(SERIES, start=1)}

# Fonts stay text, names with a dollar sign are not mathematics, equal inputs give equal bytes.
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trueup",
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "axes.unicode_minus": True,
    "path.simplify": True,
}
_CHARACTER_WIDTH = 0.58


@dataclass(frozen=True)
class Look:
    """How one series is told from the others."""

    colour: str
    marker: str
    dash: object


@dataclass(frozen=True)
class Box:
    """A rectangle of the sheet in pixels, from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


def rows_of(mapping: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    """Inner keys in the order in which they first appear."""
    return tuple(dict.fromkeys(row for series in mapping.values() for row in series))


def percent_ticks(value: float, _: object) -> str:
    """A tick of an axis of shares."""
    return number(value, "percent", digits=2)


def look(place: int) -> Look:
    """The look of the series at `place`; after six the looks repeat."""
    turn = place % len(SERIES)
    return Look(SERIES[turn], MARKERS[turn], DASHES[turn])


def text_width(text: str, size: float = TEXT) -> float:
    """About how many pixels a line of text takes; capitals take about a third more than the rest."""
    return (len(text) + sum(map(str.isupper, text)) / 3) * size * _CHARACTER_WIDTH


class Canvas:
    """A transparent sheet of `width` x `height` pixels with the origin in its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        with matplotlib.rc_context(_SETTINGS):
            self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
            self.paper = self.figure.add_axes((0, 0, 1, 1))
        self.paper.set_xlim(0, width)
        self.paper.set_ylim(height, 0)
        self.paper.axis("off")
        self.paper.set_zorder(5)
        self.figure.patch.set_visible(False)

    def text(
        self,
        words: str,
        *,
        at: tuple[float, float],
        colour: str = INK,
        align: str = "left",
        size: float = TEXT,
        bold: bool = False,
    ) -> None:
        """Write one line, its middle at the height of `at`, above all lines and cut out of them."""
        weight = "bold" if bold else "normal"
        cut_out = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
        written = self.paper.text(*at, words, color=colour, ha=align, va="center_baseline", fontsize=size)
        written.set_parse_math(False)
        written.set_fontweight(weight)
        written.set_bbox(cut_out if align == "left" else None)

    def key(self, names: Sequence[str], *, top: float) -> float:
        """Draw the legend as a line that wraps, one marker and name for each series; returns its height."""
        left, line = 6.0, 0
        for place, name in enumerate(names):
            words = shorten(name, 34)
            needed = 20 + text_width(words) + 14
            if left > 6 and left + needed > self.width:
                left, line = 6.0, line + 1
            y, style = top + 11 + 20 * line, look(place)
            self.paper.plot([left - 5, left + 11], [y, y], color=style.colour, lw=2)
            self.paper.plot([left + 3], [y], clip_on=False, marker=style.marker, color=style.colour, ms=7, mew=0)
            self.text(words, at=(left + 17, y))
            left += needed
        return 20.0 * (line + 1) + 6

    def panel(self, box: Box, *, ticks: int = 5) -> Axes:
        """Axes that fill `box`, with quiet lines; labels stand outside of it."""
        shape = (
            box.left / self.width,
            1 - (box.top + box.height) / self.height,
            box.width / self.width,
            box.height / self.height,
        )
        with matplotlib.rc_context(_SETTINGS):
            axes = self.figure.add_axes(shape)
        axes.patch.set_visible(False)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
        axes.spines["bottom"].set_linewidth(0.8)
        axes.tick_params(colors=MUTED, labelsize=SMALL, length=0, pad=5)
        axes.set_axisbelow(True)
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(ticks))
        axes.yaxis.set_major_locator(MaxNLocator(ticks))
        return axes

    def svg(self) -> str:
        """The finished drawing."""
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
            # The browser draws the words with its own fonts, so glyphs that ours lack do not matter.
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing")
            FigureCanvasSVG(self.figure).print_svg(buffer, metadata=nothing)
        return clean(buffer.getvalue(), colours=_COLOURS)


def key_height(names: Sequence[str], *, width: float) -> float:
    """The height that `Canvas.key` will take."""
    return Canvas(width, 10).key(names, top=0)
