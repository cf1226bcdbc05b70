"""Words and numbers as the report prints them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trueup.measure.scored import Estimate

Style = Literal["text", "count", "number", "signed", "percent", "points"]
DASH = "–"
NOT_MEASURED = "not measured"
UNDEFINED = "undefined: too few cases, or no variation among them"
MINUS = "\u2212"

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Missing:
    """A measure that has no value, with the reason why."""

    reason: str = NOT_MEASURED


@dataclass(frozen=True)
class Shown:
    """A value as words: the value, its interval, and a reason where there is no value."""

    value: str
    interval: str = ""
    reason: str = ""


Cell = str | int | float | Estimate | Missing | None


def printable(text: str) -> str:
    """Replace control characters and lone surrogates, which no page can show, by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def shorten(text: str, limit: int = 28) -> str:
    """Cut the middle out of a name longer than `limit` characters; line breaks become spaces."""
    text = " ".join(printable(text).split())
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def number(value: float, style: Style = "number", *, digits: int = 3) -> str:
    """A finite number as words, with a true minus sign and no negative zero; a dash where it is not finite.

    Args:
        value: The number; shares in [0, 1] for `percent`.
        style: `count` groups thousands, `signed` writes the plus as well, `percent` multiplies by 100, `points`
            does so without the sign of percent, for differences between shares.
        digits: Digits after the point; `percent` and `points` have two fewer.
    """
    if not math.isfinite(value):
        return DASH
    if style == "count":
        return f"{value:,.0f}".replace("-", MINUS)
    share = style in ("percent", "points")
    scaled, places = (100 * value, max(digits - 2, 0)) if share else (value, digits)
    plain = f"{scaled:.{places}f}" if abs(scaled) < 1e7 else f"{scaled:.3g}"
    if float(plain) == 0:
        plain = plain.lstrip("-")
    elif style in ("signed", "points") and scaled > 0:
        plain = f"+{plain}"
    return plain.replace("-", MINUS) + ("%" if style == "percent" else "")


def shown(cell: Cell, style: Style = "text", *, digits: int = 3) -> Shown:
    """A cell as words; what has no finite value becomes a dash with its reason."""
    if cell is None:
        return Shown(DASH, reason=NOT_MEASURED)
    if isinstance(cell, Missing):
        return Shown(DASH, reason=cell.reason)
    if isinstance(cell, str):
        return Shown(printable(cell))
    value = cell.value if isinstance(cell, Estimate) else cell
    if not math.isfinite(value):
        return Shown(DASH, reason="undefined (not a number)" if math.isnan(value) else "infinite")
    words = number(value, "number" if style == "text" and isinstance(value, float) else style, digits=digits)
    words = str(value) if style == "text" and isinstance(value, int) else words
    return Shown(words, _interval(cell, style, digits=digits) if isinstance(cell, Estimate) else "")


def _interval(estimate: Estimate, style: Style, *, digits: int) -> str:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    low = number(estimate.low, style, digits=digits).removesuffix("%")
    return f"{low} to {number(estimate.high, style, digits=digits)}"


def estimate(value: object) -> Estimate | Missing:
    """Read an estimate from the forms it has in an audit: a mapping, a bare number, or nothing.

    Args:
        value: A mapping with `value`, `low`, `high` and `n` (null where undefined), a number, an `Estimate`,
            `Missing`, or anything else for what was not measured.
    """
    if isinstance(value, Estimate | Missing):
        return value
    if isinstance(value, Mapping):
        if value.get("value") is None:
            return Missing(UNDEFINED if "value" in value else NOT_MEASURED)
        low, high = value.get("low"), value.get("high")
        return Estimate(
            float(value["value"]),
            math.nan if low is None else float(low),
            math.nan if high is None else float(high),
            int(value.get("n") or 0),
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Estimate(float(value), math.nan, math.nan, 0)
    return Missing()
