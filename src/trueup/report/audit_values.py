"""Read values out of an audit, so that what was not measured keeps its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trueup.measure.scored import Estimate
from trueup.report.dots import Estimates
from trueup.report.figures import Histogram
from trueup.report.text import NOT_MEASURED, Cell, Missing, estimate, number

Node = Mapping[str, object]


@dataclass(frozen=True)
class Audit:
    """An audit of reward models (schema `trueup.audit/1`) with the look-ups that the report needs."""

    node: Node

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the audit's order."""
        return tuple(str(model["name"]) for model in entries(self.node.get("models")))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the audit's order."""
        return tuple(str(split["name"]) for split in entries(self.node.get("splits")))

    @cached_property
    def level(self) -> str:
        """Coverage of the intervals, such as "95%"."""
        level = find(self.node, "intervals", "level")
        return number(level, "percent", digits=2) if isinstance(level, int | float) else "95%"

    def at(self, model: str, split: str, *path: str) -> object:
        """The entry at `path` of one model's results on one split, or `Missing` with the reason."""
        result = find(self.node, "results", model, split)
        found = find(result, *path)
        if found is not None:
            return found
        if "drift" in path and split == self.splits[0]:
            return Missing("the other splits are compared with this one")
        return Missing(_absent(result, path))

    def cell(self, model: str, split: str, *path: str) -> Cell:
        """The entry at `path` as a table prints it."""
        return cell(self.at(model, split, *path))

    def estimates(self, *path: str) -> dict[str, dict[str, Estimate | None]]:
        """The estimates at `path` by model and split; None where there is none."""
        return {
            model: {split: present(estimate(self.at(model, split, *path))) for split in self.splits}
            for model in self.models
        }

    def nodes(self, *path: str) -> dict[str, dict[str, Node]]:
        """The mappings at `path` by model and split, without those that were not measured."""
        found = {model: {split: self.at(model, split, *path) for split in self.splits} for model in self.models}
        kept = {
            model: {split: node for split, node in splits.items() if isinstance(node, Mapping)}
            for model, splits in found.items()
        }
        return {model: splits for model, splits in kept.items() if splits}

    def histograms(self, *path: str) -> dict[str, dict[str, Histogram]]:
        """The histograms at `path` by model and split, without those that were not measured."""
        return {
            model: {split: histogram(node) for split, node in splits.items()}
            for model, splits in self.nodes(*path).items()
        }

    def curves(self) -> dict[str, dict[str, list[dict[str, float]]]]:
        """The reliability curves by model and split, without those that were not measured."""
        found = {
            model: {split: points(node.get("curve")) for split, node in splits.items()}
            for model, splits in self.nodes("calibration").items()
        }
        kept = {m: {split: curve for split, curve in splits.items() if curve} for m, splits in found.items()}
        return {model: splits for model, splits in kept.items() if splits}

    def why(self, *path: str) -> str:
        """The reasons why nothing is at `path`, in words."""
        found = (estimate(self.at(model, split, *path)) for model, split in self.rows())
        reasons = dict.fromkeys(value.reason for value in found if isinstance(value, Missing))
        return "; ".join(reasons) or NOT_MEASURED

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Every model and split, models of one split together."""
        return tuple((model, split) for split in self.splits for model in self.models)

    def differences(self) -> tuple[tuple[Cell, ...], ...]:
        """Paired differences: split, which models, accuracy, tau."""
        node = self.node.get("differences")
        pairs = [
            (split, name, values)
            for split, by_name in (node.items() if isinstance(node, Mapping) else ())
            for name, values in (by_name.items() if isinstance(by_name, Mapping) else ())
        ]
        return tuple(
            (split, name, *(self._difference(split, values, key) for key in ("accuracy", "tau")))
            for split, name, values in pairs
        )

    def _difference(self, split: str, values: object, key: str) -> Cell:
        found = find(values, key)
        result = find(self.node, "results", self.models[0], split)
        return Missing(_absent(result, (key,))) if found is None else cell(found)


def find(node: object, *path: str) -> object:
    """Walk down mappings; None where a key is absent or null."""
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _absent(result: object, path: tuple[str, ...]) -> str:
    """Why a result has nothing at `path`: the reason given for it, for its group, or for a part of its group."""
    reasons = find(result, "absent")
    if isinstance(reasons, Mapping):
        parts = (str(key) for key in reasons if str(key).startswith(f"{path[0]}."))
        for key in (".".join(path), path[0], *parts):
            if key in reasons:
                return str(reasons[key])
    return NOT_MEASURED


def cell(node: object) -> Cell:
    """What an entry of an audit is in a table: a word, a number, an estimate, or missing."""
    return node if isinstance(node, str | int | float | Missing) else estimate(node)


def present(value: Estimate | Missing) -> Estimate | None:
    """The estimate, or None where it is missing."""
    return value if isinstance(value, Estimate) else None


def known(values: Estimates) -> bool:
    """Whether any value is known."""
    return any(value is not None for series in values.values() for value in series.values())


def entries(node: object) -> list[Node]:
    """A list of mappings; empty where there is none."""
    return [item for item in node if isinstance(item, Mapping)] if isinstance(node, list | tuple) else []


def points(node: object) -> list[dict[str, float]]:
    """Points of a curve as numbers, without coordinates that are null."""
    return [
        {str(name): float(value) for name, value in point.items() if isinstance(value, int | float)}
        for point in entries(node)
        if all(isinstance(point.get(name), int | float) for name in ("confidence", "accuracy", "n"))
    ]


def histogram(node: Node) -> Histogram:
    """A histogram from its `edges` and `counts`."""
    edges, counts = node.get("edges"), node.get("counts")
    if not isinstance(edges, list | tuple) or not isinstance(counts, list | tuple):
        return Histogram((0.0, 1.0), (0.0,))
    return Histogram(tuple(map(float, edges)), tuple(map(float, counts)))
