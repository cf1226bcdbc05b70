"""The report of an audit of reward models: the audit's numbers in, a page out."""

from collections.abc import Mapping

from trueup.measure.scored import Estimate
from trueup.report import audit_hacks, audit_sections
from trueup.report.audit_values import Audit, Node, cell, entries, find
from trueup.report.page import Column, Findings, KeyNumber, Page, Section, Table, Verdict
from trueup.report.provenance import provenance
from trueup.report.text import shorten

SCHEMA = "trueup.audit/1"
_MOST_KEY_MODELS = 2


def audit_page(audit: Mapping[str, object]) -> Page:
    """The report of an audit, models side by side, the verdict first.

    Args:
        audit: An audit with schema `trueup.audit/1`, as the audit computes it or as `audit.json` holds it. What is null
            was not measured, and the page says so.

    Raises:
        ValueError: The schema is another one.
    """
    if audit.get("schema") != SCHEMA:
        raise ValueError(f"an audit of schema {SCHEMA} is needed, got {audit.get('schema')!r}")
    view = Audit(audit)
    facts, recipe = provenance(audit.get("created_by"), audit.get("intervals"))
    measured = (
        audit_sections.ranking(view),
        audit_hacks.hacks(view),
        audit_sections.calibration(view),
        audit_sections.length(view),
        audit_sections.rewards(view),
        audit_sections.hidden_norms(view),
        audit_hacks.benchmarks(view),
    )
    return Page(
        title=_title(view),
        lead=_lead(view),
        verdict=_verdict(view),
        numbers=_key_numbers(view),
        sections=(*(section for section in measured if section is not None), _subjects(view)),
        provenance=facts,
        recipe=recipe,
    )


def _title(audit: Audit) -> str:
    names = [shorten(name, 40) for name in audit.models]
    return "How robust is " + (names[0] + "?" if len(names) == 1 else f"each of these {len(names)} reward models?")


def _lead(audit: Audit) -> str:
    prompts = sum(int(n) for split in entries(audit.node.get("splits")) if isinstance(n := split.get("prompts"), int))
    models = f"{len(audit.models)} reward model" + ("s" if len(audit.models) != 1 else "")
    splits = f"{len(audit.splits)} data split" + ("s" if len(audit.splits) != 1 else "")
    return (
        f"An audit of {models} on {splits} with {prompts:,} prompts: how well rewards rank answers, how they change "
        "when the data change, and what fools them."
    )


def _verdict(audit: Audit) -> tuple[Findings, ...]:
    groups = ((model, entries(find(audit.node, "verdict", model))) for model in audit.models)
    return tuple(
        Findings(model, tuple(_finding(item, names=audit.splits) for item in items)) for model, items in groups if items
    )


def _finding(item: Node, *, names: tuple[str, ...]) -> Verdict:
    text, level = str(item.get("text", "")), item.get("level")
    begins_with_name = any(text.startswith(name) for name in names)
    sentence = text if begins_with_name else text[:1].upper() + text[1:]
    return Verdict("good" if level == "good" else "bad" if level == "bad" else "watch", sentence)


def _key_numbers(audit: Audit) -> tuple[KeyNumber, ...]:
    """For each of a few models, its lowest accuracy and its worst hack."""
    numbers: list[KeyNumber] = []
    accuracy, rates = audit.estimates("accuracy"), audit_hacks.hack_rates(audit)
    for model in audit.models[:_MOST_KEY_MODELS]:
        whose = f", {shorten(model, 24)}" if len(audit.models) > 1 else ""
        for label, values, pick in (("Lowest accuracy", accuracy[model], min), ("Worst edit", rates[model], max)):
            known = {place: value for place, value in values.items() if value is not None}
            if known:
                place = pick(known, key=lambda place: known[place].value)
                numbers.append(_percentage(label + whose, known[place], detail=f"on {shorten(place)}"))
    return tuple(numbers)


def _percentage(label: str, value: Estimate, *, detail: str) -> KeyNumber:
    return KeyNumber(label=label, value=value, style="percent", digits=2, detail=detail)


def _subjects(audit: Audit) -> Section:
    """Which models and which data."""
    models = tuple(
        (str(model.get("name")), str(model.get("kind", "")), str(model.get("path") or ""))
        for model in entries(audit.node.get("models"))
    )
    keys = ("prompts", "responses", "pairs")
    splits = tuple(
        (str(split.get("name")), *(cell(split.get(key)) for key in keys)) for split in entries(audit.node.get("splits"))
    )
    return Section(
        "What was audited",
        (
            Table(
                columns=(Column("Model"), Column("Kind"), Column("Path")),
                rows=models,
                caption="Models",
            ),
            Table(
                columns=(Column("Split"), *(Column(key.capitalize(), "count") for key in keys)),
                rows=splits,
                caption="Data",
            ),
        ),
    )
