"""The report of watched runs: the measured mapping in, a page out."""

from collections.abc import Mapping

from trueup.report import policy_run_sections as sections
from trueup.report.audit_values import Node, entries, find
from trueup.report.page import Findings, KeyNumber, Page, Verdict
from trueup.report.policy_run_values import Runs
from trueup.report.provenance import provenance
from trueup.report.text import shorten

SCHEMA = "trueup.policy_audit/1"
_MOST_KEY_RUNS = 2


def policy_run_page(measured: Mapping[str, object]) -> Page:
    """The report of one or several runs, the verdict first.

    Args:
        measured: A mapping with schema `trueup.policy_audit/1`, as measured or as `audit.json` holds it.

    Raises:
        ValueError: The schema is another one.
    """
    if measured.get("schema") != SCHEMA:
        raise ValueError(f"a mapping of schema {SCHEMA} is needed, got {measured.get('schema')!r}")
    runs = Runs(measured)
    facts, recipe = provenance(measured.get("created_by"), measured.get("intervals"))
    made = (sections.frontier, sections.samples, sections.laws, sections.drifts, sections.warnings)
    return Page(
        title=_title(runs),
        lead=_lead(runs),
        verdict=tuple(_findings(name, runs.result(name)) for name in runs.names),
        numbers=tuple(number for name in runs.names[:_MOST_KEY_RUNS] for number in _numbers(runs, name)),
        sections=tuple(section for make in made if (section := make(runs)) is not None),
        provenance=facts,
        recipe=recipe,
    )


def _title(runs: Runs) -> str:
    names = [shorten(name, 40) for name in runs.names]
    subject = names[0] if len(names) == 1 else f"each of these {len(names)} runs"
    return f"Did {subject} go too far?"


def _lead(runs: Runs) -> str:
    parts = []
    for name in runs.names[:4]:
        result, steps = runs.result(name), runs.steps(name)
        prompts, samples = result.get("prompts"), result.get("samples")
        size = "read from a log of means" if prompts == 1 else f"{samples} responses to each of {prompts} prompts"
        parts.append(f"{shorten(name, 40)}: {len(steps)} looks up to step {int(steps[-1]):,}, {size}")
    notes = {str(note) for name in runs.names for note in _list(find(runs.result(name), "notes"))}
    return ". ".join(["; ".join(parts), *sorted(notes)]) + "."


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _findings(name: str, result: Node) -> Findings:
    return Findings(name, tuple(_finding(item) for item in entries(result.get("verdict"))))


def _finding(item: Node) -> Verdict:
    text, level = str(item.get("text", "")), item.get("level")
    return Verdict("good" if level == "good" else "bad" if level == "bad" else "watch", text[:1].upper() + text[1:])


def _numbers(runs: Runs, name: str) -> tuple[KeyNumber, ...]:
    """How far the run has gone, and what gold has made of it."""
    whose = f", {shorten(name, 24)}" if len(runs.names) > 1 else ""
    distance = KeyNumber(label=f"KL at the end{whose}", value=runs.last(name, "kl"), detail="nats a response")
    best = find(runs.result(name), "best", "step")
    gain = "gold_gain" if best is not None else "proxy_gain"
    label = f"{'Gold' if best is not None else 'Proxy'} change{whose}"
    change = KeyNumber(label=label, value=runs.last(name, gain), style="signed", detail="from the start to the end")
    if not isinstance(best, int):
        return (distance, change)
    return (distance, change, KeyNumber(label=f"Best step{whose}", value=best, style="count", detail="by mean gold"))
