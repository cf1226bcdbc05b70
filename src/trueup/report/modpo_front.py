"""The report of a front between objectives: the measured mapping in, a page out."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from math import ceil, isfinite

from matplotlib.axes import Axes

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure, folded
from trueup.report.audit_values import Node, entries, find
from trueup.report.canvas import INK, MUTED, PAPER, PHONE, SERIES, SMALL, WIDE, Box, Canvas
from trueup.report.page import Column, Findings, KeyNumber, Page, Section, Table, Verdict
from trueup.report.provenance import provenance
from trueup.report.text import Cell, Missing, estimate, shorten

SCHEMA = "trueup.modpo_front/1"
_HEAD, _FOOT, _LEFT, _BODY = 34, 50, 58, 300


def modpo_front_page(measured: Mapping[str, object]) -> Page:
    """The report of a sweep over weights.

    Args:
        measured: A mapping with schema `trueup.modpo_front/1`, as `front.json` holds it.

    Raises:
        ValueError: The schema is another one.
    """
    if measured.get("schema") != SCHEMA:
        raise ValueError(f"a mapping of schema {SCHEMA} is needed, got {measured.get('schema')!r}")
    points = entries(measured.get("points"))
    names = [str(name) for name in _list(measured.get("objectives"))]
    facts, recipe = provenance(measured.get("created_by"), measured.get("intervals"))
    lead = (
        f"{len(points) - 1} policies, each trained for one weighting of {', '.join(names)}: "
        f"{measured.get('samples')} responses of each to {measured.get('prompts')} held-out prompts."
    )
    return Page(
        title=f"The front between {shorten(' and '.join(names), 80)}",
        lead=lead,
        verdict=(Findings("The policies", tuple(_findings(points))),),
        numbers=(_volume(measured),),
        sections=(_section(points, names),),
        provenance=facts,
        recipe=recipe,
    )


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _findings(points: Sequence[Node]) -> list[Verdict]:
    """Which policies another one is better than, by means."""
    found = []
    for point in points:
        name, better = str(point["name"]), [str(one) for one in _list(point.get("dominated_by"))]
        if better and point.get("weights") is not None:
            words = f"{name} is dominated: {', '.join(better)} is at least as good in every objective, by means"
            found.append(Verdict("bad" if "start" in better else "watch", words))
    return found or [Verdict("good", "No policy is dominated by another one or by the start, by means")]


def _volume(measured: Node) -> KeyNumber:
    begin = find(measured, "hypervolume", "from")
    told = ", ".join(f"{name} {value:.3g}" for name, value in begin.items()) if isinstance(begin, Mapping) else ""
    whose = "stated" if find(measured, "hypervolume", "given") else "the worst of each here"
    value = estimate(find(measured, "hypervolume", "value"))
    return KeyNumber(label="Hypervolume", value=value, detail=f"above {told} ({whose})", digits=3)


def _section(points: Sequence[Node], names: Sequence[str]) -> Section:
    drawing = figure(
        partial(fronts, points, names),
        "Reward against reward",
        shows="One point for each policy, with its weights, and the start (diamond): mean rewards over the held-out "
        "prompts, with intervals over prompts. Hollow points are dominated: another one is at least as good in every "
        "objective. With two objectives the line joins those that are not.",
        good="Points that lie up and to the right of the start, move with their weights, and are not dominated.",
    )
    return Section("What does each weighting reach?", (drawing, folded(_table(points, names))))


def _table(points: Sequence[Node], names: Sequence[str]) -> Table:
    columns = (
        Column("Policy"), *(Column(shorten(name), "number") for name in names), Column("KL, nats", "number", 2),
        Column("Dominated by"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (
            str(point["name"]),
            *(estimate(find(point, "rewards", name)) for name in names),
            estimate(point.get("kl")),
            ", ".join(str(one) for one in _list(point.get("dominated_by"))) or "none",
        )
        for point in points
    ]
    return Table(columns=columns, rows=tuple(rows), caption="Means over the held-out prompts, in each reward's units")


def fronts(points: Sequence[Node], names: Sequence[str], *, width: int = WIDE) -> str:
    """One panel for each pair of objectives, reward against reward.

    Args:
        points: Points with `name`, `weights` (none for the start), `rewards` by objective and `dominated_by`.
        names: The objectives.
        width: Width in pixels.
    """
    pairs = list(combinations(names, 2))
    columns = 1 if width < PHONE or len(pairs) < 2 else 2
    cell, height = width / columns, _HEAD + _BODY + _FOOT
    canvas = Canvas(width, height * ceil(len(pairs) / columns))
    for place, (across, up) in enumerate(pairs):
        left, top = cell * (place % columns), height * (place // columns)
        canvas.text(f"{shorten(up, 30)} (reward)", at=(left + 8, top + 14), colour=MUTED, size=SMALL)
        axes = canvas.panel(Box(left + _LEFT, top + _HEAD, cell - _LEFT - 30, _BODY))
        axes.set_xlabel(f"{shorten(across, 30)} (reward)", color=MUTED, fontsize=SMALL)
        axes.margins(0.12)
        _panel(axes, points, (across, up), joined=len(names) == 2)
    return canvas.svg()


def _panel(axes: Axes, points: Sequence[Node], names: tuple[str, str], *, joined: bool) -> None:
    line = []
    for point in points:
        x, y = (estimate(find(point, "rewards", name)) for name in names)
        if isinstance(x, Missing) or isinstance(y, Missing):
            continue
        weights, hollow = _list(point.get("weights")), bool(_list(point.get("dominated_by")))
        _cross(axes, x, y, colour=SERIES[0] if weights else MUTED)
        face = PAPER if hollow else SERIES[0] if weights else MUTED
        edge = SERIES[0] if weights else MUTED
        axes.scatter([x.value], [y.value], s=42, marker="o" if weights else "D", color=face, ec=edge, lw=1.6, zorder=4)
        words = "/".join(f"{weight:.3g}" for weight in weights if isinstance(weight, int | float)) or "start"
        axes.annotate(
            words, (x.value, y.value), xytext=(6, 6), textcoords="offset points", color=INK, fontsize=SMALL, zorder=5
        )
        if weights and not hollow:
            line.append((x.value, y.value))
    if joined and len(line) > 1:
        axes.plot(*zip(*sorted(line), strict=True), color=SERIES[0], lw=1.4, alpha=0.7)


def _cross(axes: Axes, x: Estimate, y: Estimate, *, colour: str) -> None:
    """The intervals of a point."""
    if all(map(isfinite, (x.low, x.high))):
        axes.hlines([y.value], x.low, x.high, color=colour, alpha=0.35, lw=2)
    if all(map(isfinite, (y.low, y.high))):
        axes.vlines([x.value], y.low, y.high, color=colour, alpha=0.35, lw=2)
