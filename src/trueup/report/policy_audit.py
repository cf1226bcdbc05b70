"""The report of policies beside their reference: the measured mapping in, a page out."""

from collections.abc import Mapping

from trueup.report import policy_audit_rest as rest
from trueup.report import policy_audit_sections as sections
from trueup.report.audit_values import Node, entries, find
from trueup.report.page import Findings, KeyNumber, Page, Verdict
from trueup.report.policy_audit_problems import problems
from trueup.report.policy_audit_values import Policies
from trueup.report.provenance import provenance
from trueup.report.text import Style, shorten

SCHEMA = "trueup.offline_audit/1"
_MOST_KEY_POLICIES = 2


def policy_audit_page(measured: Mapping[str, object]) -> Page:
    """The report of one or several policies, the verdict first.

    Args:
        measured: A mapping with schema `trueup.offline_audit/1`, as measured or as `audit.json` holds it.

    Raises:
        ValueError: The schema is another one.
    """
    if measured.get("schema") != SCHEMA:
        raise ValueError(f"a mapping of schema {SCHEMA} is needed, got {measured.get('schema')!r}")
    view = Policies(measured)
    facts, recipe = provenance(measured.get("created_by"), measured.get("intervals"))
    made = (
        sections.preference(view),
        rest.samples(view),
        problems(view),
        sections.variety(view),
        sections.lengths(view),
        rest.implicit(view),
        rest.subjects(view),
    )
    return Page(
        title=_title(view),
        lead=_lead(view),
        verdict=tuple(Findings(name, found) for name in view.names if (found := _findings(view.result(name)))),
        numbers=tuple(one for name in view.names[:_MOST_KEY_POLICIES] for one in _numbers(view, name)),
        sections=tuple(section for section in made if section is not None),
        provenance=facts,
        recipe=recipe,
    )


def _title(view: Policies) -> str:
    names = [shorten(name, 40) for name in view.names]
    subject = names[0] if len(names) == 1 else f"each of these {len(names)} policies"
    return f"What has {subject} learned?"


def _lead(view: Policies) -> str:
    count = "A policy" if len(view.names) == 1 else f"{len(view.names)} policies"
    held = f", held against {shorten(view.reference, 40)}" if view.reference else ", without a reference"
    prompts = view.node.get("prompts")
    asked = (
        f"{view.samples} responses to each of {prompts:,} held-out prompts"
        if isinstance(prompts, int) and prompts
        else ""
    )
    pairs = next((n for name in view.names if (n := find(view.result(name), "implicit_reward", "pairs"))), None)
    given = f"{pairs:,} held-out pairs" if isinstance(pairs, int) else ""
    notes = {str(note) for name in view.everyone for note in _list(view.result(name).get("notes"))}
    on = " and ".join(part for part in (asked, given) if part)
    return ". ".join([f"{count}{held}: {on}", *sorted(notes)]) + "."


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _findings(result: Node) -> tuple[Verdict, ...]:
    return tuple(_finding(item) for item in entries(result.get("verdict")))


def _finding(item: Node) -> Verdict:
    text, level = str(item.get("text", "")), item.get("level")
    return Verdict("good" if level == "good" else "bad" if level == "bad" else "watch", text[:1].upper() + text[1:])


def _numbers(view: Policies, name: str) -> tuple[KeyNumber, ...]:
    """What is known of a policy in a few numbers."""
    judge = view.judges[0] if view.judges else ""
    asked: tuple[tuple[str, tuple[str, ...], Style, str], ...] = (
        ("Win rate", ("win_rates", judge, "headline"), "percent", f"against the reference, by {shorten(judge)}"),
        ("At equal length", ("win_rates", judge, "length_controlled", "rate"), "percent", "win rate without length"),
        ("KL", ("kl", "response"), "number", "nats a response, to the reference"),
        ("Implicit reward", ("implicit_reward", "accuracy"), "percent", "of held-out pairs right"),
    )
    whose = f", {shorten(name, 24)}" if len(view.names) > 1 else ""
    return tuple(
        KeyNumber(label=label + whose, value=value, style=style, detail=detail)
        for label, path, style, detail in asked
        if (value := view.estimate(name, *path)) is not None
    )
