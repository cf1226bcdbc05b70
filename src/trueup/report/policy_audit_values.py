"""Read values out of an audit of policies, so that what was not measured keeps its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trueup.measure.scored import Estimate
from trueup.report.audit_values import Node, cell, entries, find, present
from trueup.report.text import NOT_MEASURED, Cell, Missing, estimate, number


@dataclass(frozen=True)
class Policies:
    """An audit of policies (schema `trueup.offline_audit/1`) with the look-ups that the report needs."""

    node: Node

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the policies."""
        found = self.node.get("policies")
        return tuple(map(str, found)) if isinstance(found, Mapping) else ()

    @cached_property
    def reference(self) -> str | None:
        """Name of the reference, if there is one."""
        found = find(self.node, "reference", "name")
        return None if found is None else str(found)

    @cached_property
    def everyone(self) -> tuple[str, ...]:
        """The policies, and last the reference: so a policy has one colour throughout."""
        return self.names if self.reference is None else (*self.names, self.reference)

    @cached_property
    def level(self) -> str:
        """Coverage of the intervals, such as "95%"."""
        level = find(self.node, "intervals", "level")
        return number(level, "percent", digits=2) if isinstance(level, int | float) else "95%"

    def result(self, name: str) -> Node:
        """Everything measured of a policy or of the reference."""
        found = find(self.node, "reference") if name == self.reference else find(self.node, "policies", name)
        return found if isinstance(found, Mapping) else {}

    def cell(self, name: str, *path: str) -> Cell:
        """The entry at a path as a table prints it."""
        found = find(self.result(name), *path)
        if found is None:
            reason = find(self.result(name), "absent", path[0])
            return Missing(str(reason) if reason else NOT_MEASURED)
        return cell(found)

    def estimate(self, name: str, *path: str) -> Estimate | None:
        """The estimate at a path, or None where there is none."""
        return present(estimate(find(self.result(name), *path)))

    def known(self, part: str) -> tuple[str, ...]:
        """Those of whom a part was measured."""
        return tuple(name for name in self.everyone if self.result(name).get(part))

    def why(self, part: str) -> str:
        """Why a part was measured of no policy."""
        reasons = dict.fromkeys(str(find(self.result(name), "absent", part) or NOT_MEASURED) for name in self.names)
        return "; ".join(reasons)

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """Names of those who compared, in the order of the first policy that was."""
        found = (find(self.result(name), "win_rates") for name in self.names)
        return tuple(dict.fromkeys(str(key) for node in found if isinstance(node, Mapping) for key in node))

    def looks(self, name: str) -> list[Node]:
        """What was drawn of someone, by temperature."""
        return entries(self.result(name).get("samples"))

    @cached_property
    def samples(self) -> int:
        """Responses to each prompt, 0 where none were drawn."""
        for name in self.everyone:
            for look in self.looks(name):
                count = look.get("responses")
                return count if isinstance(count, int) else 0
        return 0
