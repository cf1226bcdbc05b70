"""Read values out of an audit of runs, so that what was not measured keeps its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trueup.measure.scored import Estimate
from trueup.report.audit_values import Node, cell, find
from trueup.report.frontier import Frontier
from trueup.report.text import NOT_MEASURED, Cell, Missing, estimate

VERDICTS = {"peaks": "gold peaks", "still rising": "gold still rises", "cannot tell": "cannot tell"}
_NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Runs:
    """An audit of runs (schema `trueup.policy_audit/1`) with the look-ups that the report needs."""

    node: Node

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the runs."""
        found = self.node.get("runs")
        return tuple(map(str, found)) if isinstance(found, Mapping) else ()

    def result(self, run: str) -> Node:
        """Everything measured of a run."""
        found = find(self.node, "runs", run)
        return found if isinstance(found, Mapping) else {}

    def steps(self, run: str) -> list[float]:
        """Watched steps."""
        return _numbers(find(self.result(run), "steps"))

    def along(self, run: str, *path: str, scale: float = 1.0) -> list[Estimate]:
        """Estimates at every watched step, divided by a scale; none where they were not measured."""
        found = find(self.result(run), *path)
        each = [estimate(value) for value in found] if isinstance(found, list) else []
        known = [_NOTHING if isinstance(one, Missing) else one for one in each]
        return [Estimate(e.value / scale, e.low / scale, e.high / scale, e.n) for e in known]

    def cell(self, run: str, *path: str) -> Cell:
        """The entry at a path as a table prints it."""
        found = find(self.result(run), *path)
        if found is None:
            reason = find(self.result(run), "absent", path[0])
            return Missing(str(reason) if reason else NOT_MEASURED)
        return cell(found)

    def last(self, run: str, *path: str) -> Cell:
        """The last value of a series as a table prints it."""
        values = self.along(run, *path)
        return values[-1] if values else Missing(NOT_MEASURED)

    def verdict(self, run: str) -> str:
        """What the data say about a peak, in a few words."""
        return VERDICTS.get(str(find(self.result(run), "law", "verdict")), "no law")

    def unit(self, quantity: str) -> tuple[float, bool] | None:
        """What gains are divided by, the first run's spread within prompts, and whether there is one.

        All runs share it, so that they can be drawn in one picture. None where no run knows the quantity.
        """
        knowing = [run for run in self.names if self.along(run, f"{quantity}_gain")]
        if not knowing:
            return None
        spreads = [find(self.result(run), "std_within", quantity) for run in knowing]
        known = [float(value) for value in spreads if isinstance(value, int | float) and value > 0]
        return (known[0], True) if len(known) == len(knowing) else (1.0, False)

    def frontier(self, run: str, quantity: str, scale: float) -> Frontier | None:
        """One run against distance; None where distance or quantity is not known."""
        d = [float("nan") if value is None else float(value) for value in _list(find(self.result(run), "d"))]
        values = self.along(run, f"{quantity}_gain", scale=scale)
        if not d or not values:
            return None
        law, peak = find(self.result(run), "law"), None
        coefficients = [estimate(find(law, name)) for name in ("alpha", "beta")]
        known = [one.value / scale for one in coefficients if isinstance(one, Estimate)]
        if find(law, "verdict") == "peaks":
            peak = estimate(find(law, "peak_d"))
        is_gold = quantity == "gold"
        return Frontier(
            d=d,
            values=values,
            law=(known[0], known[1]) if is_gold and len(known) == 2 else None,
            peak=peak if is_gold and isinstance(peak, Estimate) else None,
        )


def _list(value: object) -> list[float | None]:
    return list(value) if isinstance(value, list) else []


def _numbers(value: object) -> list[float]:
    return [float(one) for one in _list(value) if one is not None]
