"""The data report as text for a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

_MOST_NAMES = 12
_WIDTH = 36


def render_report(report: Mapping[str, Any]) -> str:
    """A plain-text table of a report in the form that `DataReport.to_dict` gives."""
    unit = report["unit"]
    lines = [
        f"data report: {report['source']}",
        "",
        _line("format", report["format"]),
        _line("fingerprint", report["fingerprint"][:16]),
        _line("rows", report["rows"]),
        _line("responses", report["responses"]),
        _line("pairs", report["pairs"]),
        _line(unit, report["total_length"]),
        *_optional("blank lines skipped", report["blank_lines"]),
        *_optional("columns not used", ", ".join(report["ignored"])),
        "",
        *_lengths(report),
        "",
        *_preferences(report),
        *_counts("source of responses", report["sources"]),
        *_counts("subset", report["subsets"]),
        "",
        *_findings(report),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, value: object) -> str:
    shown = f"{value:,}" if isinstance(value, int) else str(value)
    return f"  {name:<{_WIDTH}} {shown}"


def _optional(name: str, value: object) -> list[str]:
    return [_line(name, value)] if value else []


def _lengths(report: Mapping[str, Any]) -> Iterable[str]:
    spreads = {"prompt": report["prompt_lengths"], "response": report["response_lengths"]}
    columns = next((list(spread) for spread in spreads.values() if spread), [])
    yield f"  {'length in ' + report['unit']:<{_WIDTH}} " + " ".join(f"{column:>8}" for column in columns)
    for name, spread in spreads.items():
        yield f"  {name:<{_WIDTH}} " + " ".join(f"{spread[column]:8,.0f}" for column in columns if spread)


def _preferences(report: Mapping[str, Any]) -> Iterable[str]:
    longer = report["longer_wins"]
    if longer["share"] is None:
        yield _line("longer response wins", "no pairs of unequal length")
    else:
        shown = f"{longer['share']:.1%} of {longer['n']:,} pairs ({longer['equal']:,} are equally long)"
        yield _line("longer response wins", shown)
    labels = ", ".join(f"{count:,} {name}" for name, count in report["labels"].items() if count)
    yield _line("labels", labels)
    yield from _optional("scored responses", report["scored"])


def _counts(title: str, counts: Mapping[str, int]) -> Iterable[str]:
    for index, (name, count) in enumerate(counts.items()):
        if index == _MOST_NAMES:
            yield _line("", f"... and {len(counts) - index:,} more")
            return
        yield _line(title if index == 0 else "", f"{count:>8,}  {_one_line(name)}")


def _findings(report: Mapping[str, Any]) -> Iterable[str]:
    if not report["findings"]:
        yield "  no problems found"
        return
    yield f"  {'found':<{_WIDTH}} {'count':>8}  unit       first rows"
    for one in report["findings"]:
        rows = ", ".join(place.rpartition(":")[2] for place in one["places"])
        more = ", ..." if one["count"] > len(one["places"]) else ""
        mark = "" if one["strict"] else "  (a note, no problem)"
        yield f"  {one['kind']:<{_WIDTH}} {one['count']:>8,}  {one['unit']:<10} {rows}{more}{mark}"


def _one_line(name: str) -> str:
    return " ".join(name.split())[:80]
