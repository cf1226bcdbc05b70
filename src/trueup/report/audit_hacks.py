"""The sections of a reward model's audit on controlled edits and on public benchmarks."""

from collections.abc import Mapping
from functools import partial

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure
from trueup.report.audit_values import Audit, Node, cell, entries, find, known, present
from trueup.report.figures import win_rates
from trueup.report.page import Block, Column, Details, Quote, Quotes, Section, Table
from trueup.report.text import Cell, estimate, number, shorten

_HEADING = "Can it be fooled by cheap edits?"


def hacks(audit: Audit) -> Section:
    """The hack battery: win rates, shifts, and examples."""
    rates = _rates(audit)
    if not known(rates):
        why = find(audit.node, "hacks")
        return Section(_HEADING, (f"Not measured: {getattr(why, 'reason', 'no edits were scored')}.",))
    drawn = figure(
        partial(win_rates, rates),
        "The hack battery",
        shows="Good answers were edited in ways that help nobody, and both forms were scored. Each mark says "
        "how often the edited form got the higher reward, with its 95% interval. The worst edit stands first.",
        good="Every mark well to the left of the dashed line: the original should win.",
    )
    return Section(_HEADING, (drawn, _shift_table(audit), *_examples(audit)))


def _names(audit: Audit) -> tuple[str, ...]:
    node = audit.node.get("hacks")
    found = [tuple(hacks) for hacks in (node.values() if isinstance(node, Mapping) else ())]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _rates(audit: Audit) -> dict[str, dict[str, Estimate | None]]:
    return {
        model: {
            name.replace("_", " "): present(estimate(find(audit.node, "hacks", model, name, "win_rate")))
            for name in _names(audit)
        }
        for model in audit.models
    }


def _shift_table(audit: Audit) -> Table:
    columns = (
        Column("Edit"), Column("Model"), Column("Edit wins", "percent"),
        Column("Reward moves by (std)", "signed", 2), Column("Answers", "count"),
    )  # fmt: skip
    rows = tuple(
        (
            name.replace("_", " "),
            model,
            *(cell(find(audit.node, "hacks", model, name, key)) for key in ("win_rate", "shift_in_std", "n")),
        )
        for name in _names(audit)
        for model in audit.models
    )
    return Table(columns=columns, rows=rows, caption="How each edit changes the reward")


def _examples(audit: Audit) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for model in audit.models:
        for name in _names(audit):
            found = entries(find(audit.node, "hacks", model, name, "examples"))
            if found:
                quotes = tuple(_quotes(example) for example in found)
                blocks.append(Details(f"{shorten(model, 40)}: {name.replace('_', ' ')}", quotes))
    return ("What the edits look like, with the rewards that each form got:", *blocks) if blocks else ()


def _quotes(example: Node) -> Quotes:
    before, after = (estimate(example.get(key)) for key in ("reward_original", "reward_edited"))
    verdict = ""
    if isinstance(before, Estimate) and isinstance(after, Estimate):
        verdict = ", the edit wins" if after.value > before.value else ", the original wins"
    return Quotes(
        (
            Quote("Prompt", str(example.get("prompt", ""))),
            Quote("Original", str(example.get("original", "")), _reward(before)),
            Quote("Edited", str(example.get("edited", "")), _reward(after) + verdict),
        )
    )


def _reward(value: object) -> str:
    return f"reward {number(value.value, digits=2)}" if isinstance(value, Estimate) else "reward not measured"


def benchmarks(audit: Audit) -> Section | None:
    """Tables of the public benchmarks among the splits; None where there are none."""
    found = audit.nodes("benchmark")
    splits = tuple(dict.fromkeys(split for by_split in found.values() for split in by_split))
    if not splits:
        return None
    return Section(
        "Public benchmarks",
        tuple(table for split in splits for table in _benchmark_tables(audit, split)),
    )


def _benchmark_tables(audit: Audit, split: str) -> tuple[Block, ...]:
    nodes = {model: audit.at(model, split, "benchmark") for model in audit.models}
    first = next(node for node in nodes.values() if isinstance(node, Mapping))
    parts = [part for part in ("domains", "sections", "subsets", "ties") if isinstance(first.get(part), Mapping)]
    tables = [_benchmark_table(nodes, split, part) for part in parts if first[part]]
    whole = (
        []
        if first.get("complete", True)
        else [f"{split}: some subsets are absent, so the overall score is not the published figure."]
    )
    return (*whole, *tables)


def _benchmark_table(nodes: Mapping[str, object], split: str, part: str) -> Table:
    first = next(node for node in nodes.values() if isinstance(node, Mapping))
    rows: list[tuple[Cell, ...]] = []
    by_difficulty = part == "domains"
    names = ("easy", "normal", "hard", "mean")
    for group in first[part]:
        for model, node in nodes.items():
            if by_difficulty:
                rows.append((group, model, *(cell(find(node, part, group, name)) for name in names)))
            else:
                rows.append((group, model, cell(find(node, part, group))))
    for model, node in nodes.items():
        overall = cell(find(node, "overall"))
        if by_difficulty:
            rows.append(("all", model, *(cell(find(node, "difficulty", name)) for name in names[:3]), overall))
        elif part != "ties":
            rows.append(("overall", model, overall))
    heads = tuple(Column(name.capitalize(), "percent") for name in names)
    columns = (
        Column(part.removesuffix("s").capitalize() if part != "ties" else "Part of the Ties score"),
        Column("Model"),
    )
    return Table(
        columns=(*columns, *(heads if by_difficulty else (Column("Score", "percent"),))),
        rows=tuple(rows),
        caption=f"{split}: by {'domain and difficulty' if by_difficulty else part.removesuffix('s')}",
    )
