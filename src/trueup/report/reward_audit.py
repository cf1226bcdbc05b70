"""The report of an audit of reward models: the audit's numbers in, a page out."""

from collections.abc import Mapping

from trueup.report import audit_hacks, audit_sections
from trueup.report.audit_values import Audit, entries, find
from trueup.report.page import Findings, Page, Verdict
from trueup.report.text import shorten

SCHEMA = "trueup.audit/1"
_MOST_KEY_NUMBERS = 4


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
        provenance=_provenance(audit.get("created_by")),
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
    groups = ((model, find(audit.node, "verdict", model)) for model in audit.models)
    return tuple(
        Findings(model, tuple(Verdict(_level(item), str(item.get("text", ""))) for item in entries(items)))
        for model, items in groups
        if entries(items)
    )
