"""The section of a page about policies that says how many problems they solve."""

from collections.abc import Mapping, Sequence
from functools import partial

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure
from trueup.report.audit_values import Node, cell, entries, find, present
from trueup.report.page import Block, Column, Details, Section, Table
from trueup.report.policy_audit_figures import Passing, passing
from trueup.report.policy_audit_sections import temperature_of
from trueup.report.policy_audit_values import Policies
from trueup.report.text import Cell, Missing, Style, estimate

_MOST_COLUMNS = 6


def problems(view: Policies) -> Section | None:
    """How often one of k answers is right; None where nothing was verified."""
    curves = {name: curve for name in view.everyone if (curve := _curve(view.result(name))) is not None}
    if not curves:
        return None
    best = any(find(view.result(name), "pass_at_k", "best") for name in view.everyone)
    how = (
        " Each problem is measured at the temperature that is best for the other half of the problems." if best else ""
    )
    drawing = figure(
        partial(passing, curves),
        "pass@k",
        shows="The share of problems of which at least one of k sampled answers passes the verifier, estimated without "
        f"bias, with {view.level} intervals over problems.{how}",
        good="Above the reference at every k. A policy that is above at k = 1 and below at large k has become sharper "
        "by losing answers that the reference still finds.",
    )
    changes, chosen = _changes(view), _chosen(view)
    blocks: list[Block] = [drawing, *([changes] if changes else [])]
    blocks.append(Details("The numbers", (_rates(view), *([chosen] if chosen else []))))
    return Section("Does it solve more problems?", tuple(blocks))


def _node(result: Node) -> Node:
    found = result.get("pass_at_k")
    return found if isinstance(found, Mapping) else {}


def _sizes(node: Node) -> list[int]:
    found = node.get("k")
    return [int(k) for k in found] if isinstance(found, list) else []


def _curve(result: Node) -> Passing | None:
    node = _node(result)
    rate = find(node, "best", "rate") or next((one.get("rate") for one in entries(node.get("temperatures"))), None)
    if not isinstance(rate, list):
        return None
    nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
    return Passing(_sizes(node), [present(estimate(one)) or nothing for one in rate])


def _shown(view: Policies) -> list[int]:
    """Places of the k that tables show: the ends, and what lies evenly between."""
    count = max(len(_sizes(_node(view.result(name)))) for name in view.everyone)
    most = min(count, _MOST_COLUMNS)
    return sorted({round(place * (count - 1) / max(most - 1, 1)) for place in range(most)})


def _columns(view: Policies, style: Style) -> list[Column]:
    sizes = max((_sizes(_node(view.result(name))) for name in view.everyone), key=len)
    return [Column(f"k = {sizes[place]}", style) for place in _shown(view)]


def _cells(values: object, places: Sequence[int]) -> list[Cell]:
    known = values if isinstance(values, list) else []
    return [cell(known[place]) if place < len(known) else Missing() for place in places]


def _changes(view: Policies) -> Table | None:
    """The change from the reference, each problem against itself."""
    found = {name: _node(view.result(name)).get("difference") for name in view.names}
    rows = [(name, *_cells(values, _shown(view))) for name, values in found.items() if values]
    if not rows:
        return None
    first = next(iter(entries(_node(view.result(view.names[0])).get("temperatures"))), {})
    caption = f"pass@k over the reference's at temperature {temperature_of(first)}, in points, problem by problem"
    return Table(columns=(Column("Policy"), *_columns(view, "points")), rows=tuple(rows), caption=caption)


def _rates(view: Policies) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in view.everyone:
        node = _node(view.result(name))
        for one in entries(node.get("temperatures")):
            rows.append((name, temperature_of(one), *_cells(one.get("rate"), _shown(view))))
        if node.get("best"):
            rows.append((name, "best of the other half", *_cells(find(node, "best", "rate"), _shown(view))))
    columns = (Column("Policy"), Column("Temperature"), *_columns(view, "percent"))
    return Table(columns=columns, rows=tuple(rows), caption="pass@k at every temperature")


def _chosen(view: Policies) -> Table | None:
    """Which temperatures were chosen, where there was a choice."""
    rows: list[tuple[Cell, ...]] = []
    for name in view.everyone:
        chosen, places = find(_node(view.result(name)), "best", "chosen"), _shown(view)
        if isinstance(chosen, list) and len(chosen) == 2:
            rows.append((name, *(f"{chosen[0][i]:g} and {chosen[1][i]:g}" for i in places)))
    if not rows:
        return None
    caption = "Temperatures that the two halves of the problems chose for each other"
    return Table(columns=(Column("Policy"), *_columns(view, "text")), rows=tuple(rows), caption=caption)
