"""The demo's page: what the world is, how training went, and then the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.data.rows import Row, prompt_text
from trueup.report.page import Column, Page, Quote, Quotes, Section, Table
from trueup.report.reward_audit import audit_page
from trueup.report.training import read_log, training_section

_MEANING = {
    "train": "what both models learn from: one labelled pair a prompt",
    "in_domain": "the same prompts and writers, other answers",
    "prompt_disjoint": "families of prompts that training has not seen",
    "response_disjoint": "writers that training has not seen",
    "mutual_disjoint": "neither the prompts nor the writers were seen",
}


def demo_page(audit: Mapping[str, Any], splits: Mapping[str, Sequence[Row]], *, runs: Mapping[str, Path]) -> Page:
    """The audit's page with the story in front of it."""
    page = audit_page(audit)
    story = (_world_section(splits), training_section({name: read_log(path) for name, path in runs.items()}))
    return replace(
        page,
        title="Two reward models in a small language world",
        lead=(
            "Both learned from the same labelled pairs; one of them (BSR) is also held to rewards that sum to zero "
            "over each batch. Gold is a program that checks facts, so what is right is known for every answer."
        ),
        sections=(*story, *page.sections),
    )


def _world_section(splits: Mapping[str, Sequence[Row]]) -> Section:
    sizes = tuple(
        (name, len(rows), sum(len(row.responses) for row in rows), _MEANING[name]) for name, rows in splits.items()
    )
    columns = (Column("split"), Column("prompts", "count"), Column("answers", "count"), Column("what it is"))
    row = next((row for row in splits["mutual_disjoint"] if len(row.responses) >= 3), splits["mutual_disjoint"][0])
    best_first = sorted(row.responses, key=lambda response: -(response.score or 0.0))
    quotes = [Quote("prompt", prompt_text(row.prompt))]
    quotes += [Quote(f"writer: {r.source}", r.text, f"gold {r.score:+.2f}") for r in (best_first[0], best_first[-1])]
    return Section(
        "What is the world?",
        (
            "Prompts and answers are generated: entities with attributes, families of questions, and writers with "
            "habits such as flattery, padding, or getting items wrong. Gold parses an answer and scores whether it is "
            "right, complete, to the point, concise and free of repetition.",
            Quotes(tuple(quotes)),
            Table(columns=columns, rows=sizes, caption="The five splits"),
        ),
    )
