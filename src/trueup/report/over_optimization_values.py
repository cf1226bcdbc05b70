"""Read values out of a measured pool, so that what was not measured keeps its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trueup.measure.over_optimization_verdict import size_words
from trueup.measure.scored import Estimate
from trueup.report.audit_values import Node, find
from trueup.report.curves import OptimizationCurve
from trueup.report.text import NOT_MEASURED, Cell, Missing, estimate

VERDICTS = {"peaks": "gold peaks", "still rising": "gold is still rising", "cannot tell": "cannot tell if gold peaks"}


@dataclass(frozen=True)
class Pool:
    """A measured pool (schema `trueup.best_of_n/1`) with the look-ups that the report needs."""

    node: Node

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """Names of the proxies."""
        results = self.node.get("results")
        return tuple(map(str, results)) if isinstance(results, Mapping) else ()

    @cached_property
    def n(self) -> list[int]:
        """Sizes."""
        return [n for n in _list(self.node.get("n")) if isinstance(n, int)]

    @cached_property
    def d(self) -> list[float]:
        """Distance at each size, sqrt(nats)."""
        return [float(d) for d in _list(self.node.get("d")) if isinstance(d, int | float)]

    @property
    def gold(self) -> str | None:
        """Name of gold; None where none was given."""
        name = find(self.node, "gold", "name")
        return None if name is None else str(name)

    def result(self, proxy: str) -> Node:
        """Everything measured of best-of-n by a proxy."""
        found = find(self.node, "results", proxy)
        return found if isinstance(found, Mapping) else {}

    def at(self, proxy: str, *path: str) -> object:
        """The entry at a path of a proxy's result, or `Missing` with the reason."""
        result = self.result(proxy)
        found = find(result, *path)
        if found is not None:
            return found
        reason = find(result, "absent", path[0]) or (None if self.gold else find(result, "absent", "gold"))
        return Missing(str(reason) if reason else NOT_MEASURED)

    def cell(self, proxy: str, *path: str) -> Cell:
        """The entry at a path as a table prints it."""
        value = self.at(proxy, *path)
        return value if isinstance(value, str | int | float | Missing) else estimate(value)

    def verdict(self, proxy: str) -> str:
        """What the data say about a peak, in a few words."""
        verdict = find(self.result(proxy), "law", "verdict")
        return VERDICTS.get(str(verdict), "" if self.gold is None else VERDICTS["cannot tell"])

    def along(self, proxy: str, *path: str, scale: float = 1.0) -> list[Estimate]:
        """Estimates at every size, divided by a scale; none where they were not measured."""
        found = find(self.result(proxy), *path)
        each = [estimate(value) for value in _list(found)]
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        known = [nothing if isinstance(one, Missing) else one for one in each]
        return [Estimate(e.value / scale, e.low / scale, e.high / scale, e.n) for e in known]

    def curve(self, proxy: str) -> OptimizationCurve:
        """What the figures draw: gains in standard deviations within a prompt."""
        unit, gold_unit = _scale(find(self.result(proxy), "std_within")), _scale(find(self.node, "gold", "std_within"))
        law, peak = find(self.result(proxy), "law"), None
        coefficients = [estimate(find(law, name)) for name in ("alpha", "beta")]
        known = [one.value / gold_unit for one in coefficients if isinstance(one, Estimate)]
        if find(law, "verdict") == "peaks":
            peak = estimate(find(law, "peak_d"))
        return OptimizationCurve(
            n=self.n,
            d=self.d,
            proxy=self.along(proxy, "proxy_gain", scale=unit),
            gold=self.along(proxy, "gold_gain", scale=gold_unit),
            law=(known[0], known[1]) if len(known) == 2 else None,
            peak=peak if isinstance(peak, Estimate) else None,
            verdict=self.verdict(proxy),
        )

    def curves(self) -> dict[str, OptimizationCurve]:
        """The curves of all proxies."""
        return {proxy: self.curve(proxy) for proxy in self.proxies}

    def peak(self, proxy: str) -> Cell:
        """Where gold peaks as a size n with its interval in words; the reason where the data show no peak."""
        law = find(self.result(proxy), "law")
        if find(law, "verdict") != "peaks":
            return Missing(self.verdict(proxy) or "no gold was given")
        ends = (find(law, "peak_n", end) for end in ("value", "low", "high"))
        value, low, high = (size_words(_number(end), self.n[-1]) for end in ends)
        return f"{value} ({low} to {high})"


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _scale(value: object) -> float:
    number = _number(value)
    return number if number is not None and number > 0 else 1.0
