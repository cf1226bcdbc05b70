"""The demo's page: the world, its policy, the proxies, what optimisation does, and the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.data.rows import Row, prompt_text
from trueup.report.over_optimization import over_optimization_page
from trueup.report.page import Column, Page, Quote, Quotes, Section, Table
from trueup.report.reward_audit import audit_page
from trueup.report.training import read_log, training_section

_MEANING = {
    "train": "what the proxies learn from: gold's choice between two samples",
    "in_domain": "the same prompts, other samples of the policy",
    "prompt_disjoint": "the policy's samples for families of prompts that training has not seen",
    "response_disjoint": "training prompts, answered by writers that training has not seen",
    "mutual_disjoint": "neither the prompts nor the writers were seen",
}


def demo_page(
    optimized: Mapping[str, Any],
    audit: Mapping[str, Any],
    splits: Mapping[str, Sequence[Row]],
    *,
    quality: Mapping[str, Any],
    runs: Mapping[str, Path],
) -> Page:
    """The story from top to bottom: first what was made, then what optimisation did to gold, then the audit."""
    page, audited = over_optimization_page(optimized), audit_page(audit)
    made = (
        _world_section(splits),
        _policy_section(splits, quality),
        training_section({name: read_log(path) for name, path in runs.items()}),
    )
    return replace(
        page,
        title="What happens when a policy is optimised against a reward model",
        lead=(
            "A small language model learned the language of a small world. Gold, a program that checks facts, compared "
            "pairs of its samples; three reward models learned from these comparisons: plain Bradley-Terry (BT), the "
            "same with rewards that sum to zero over each batch (BSR), and five heads on one trunk (ensemble). Then "
            "best-of-n optimised the policy against each, and gold, which no proxy saw, says what came of it."
        ),
        sections=(*made, *page.sections, *audited.sections),
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


def _policy_section(splits: Mapping[str, Sequence[Row]], quality: Mapping[str, Any]) -> Section:
    pairs = splits["train"][:3]
    shown = []
    for row in pairs:
        better_first = sorted(row.responses, key=lambda response: not response.label)
        answers = zip(("gold prefers", "to this"), better_first, strict=True)
        quotes = [Quote(label, one.text, f"gold {one.score:+.2f}") for label, one in answers]
        shown.append(Quotes((Quote("prompt", prompt_text(row.prompt)), *quotes)))
    return Section(
        "What does the policy say?",
        (
            f"The policy has {quality['parameters']:,} parameters and learned from the writers' answers alone. "
            f"{quality['grammatical_sentences']:.0%} of its sentences are grammatical and {quality['ended']:.0%} of "
            f"its answers end themselves; their mean gold is {quality['gold_mean']:.2f}, where 0 is the mean of the "
            "writers it learned from. These are pairs that the proxies learn from:",
            *shown,
        ),
    )
