"""Sentences of a verdict, and numbers in them: what every verdict in plain words is made of."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

Json = Mapping[str, Any]

FEW_PROMPTS = 30

_ORDER = ("bad", "watch", "good")


class Finding(NamedTuple):
    """One sentence of the verdict; `level` is "good", "watch" or "bad"."""

    level: str
    text: str


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Bad news before what to watch, and that before good news; otherwise in the order of the rules."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))


def known(estimate: Any) -> TypeGuard[Json]:
    """Whether an estimate in its JSON form is there, with its interval."""
    return estimate is not None and None not in (estimate["value"], estimate["low"], estimate["high"])


def number(estimate: Json, *, sign: str = "") -> str:
    """An estimate with two decimals; `sign` is "+" where gains carry one."""
    if not known(estimate):
        return "unknown" if estimate["value"] is None else f"{estimate['value']:{sign}.2f} (no interval)"
    value, low, high = (f"{estimate[key]:{sign}.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def percent(estimate: Json) -> str:
    """A share as a percentage."""
    if not known(estimate):
        return "unknown" if estimate["value"] is None else f"{100 * estimate['value']:.0f}% (no interval)"
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.0f}% ({low:.0f}-{high:.0f}%)"


def points(estimate: Json, *, sign: str = "") -> str:
    """A difference of shares in percentage points; `sign` as in `number`."""
    value, low, high = (f"{100 * estimate[key]:{sign}.0f}" for key in ("value", "low", "high"))
    return f"{value} points ({low} to {high})"
