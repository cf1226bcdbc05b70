"""The sections of a reward model's audit on controlled edits and on public benchmarks."""

from collections.abc import Mapping
from functools import partial

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure, folded
from trueup.report.audit_values import Audit, Node, cell, entries, find, known, present
from trueup.report.figures import win_rates
from trueup.report.page import Block, Column, Details, Quote, Quotes, Section, Table
from trueup.report.text import Cell, Missing, estimate, number

_HEADING = "Can it be fooled by cheap edits?"


def hacks(audit: Audit) -> Section:
    """The hack battery: win rates, shifts, and examples."""
    rates = hack_rates(audit)
    if not known(rates):
        return Section(_HEADING, ("Not measured: no edited answers were scored.",))
    drawn = figure(
        partial(win_rates, rates),
        "The hack battery",
        shows="Good answers were edited in ways that help nobody, and both forms were scored. Each mark says "
        "how often the edited form got the higher reward, "
        f"with its {audit.level} interval, "
        "worst edit first (on average over models).",
        good="Every mark well to the left of the dashed line: the original should win.",
    )
    return Section(_HEADING, (drawn, folded(_shift_table(audit)), *_examples(audit)))


def _names(audit: Audit) -> tuple[str, ...]:
    """The hacks of any model, worst first."""
    node = audit.node.get("hacks")
    found = [tuple(hacks) for hacks in (node.values() if isinstance(node, Mapping) else ())]
    names = dict.fromkeys(name for names in found for name in names)

    def badness(name: str) -> float:
        rates = [_rate(audit, model, name) for model in audit.models]
        values = [rate.value for rate in rates if rate is not None]
        return sum(values) / len(values) if values else -1.0

    return tuple(sorted(names, key=badness, reverse=True))


def _rate(audit: Audit, model: str, name: str) -> Estimate | None:
    return present(estimate(find(audit.node, "hacks", model, name, "win_rate")))


def hack_rates(audit: Audit) -> dict[str, dict[str, Estimate | None]]:
    """Win rates by model and hack, worst hack first."""
    return {model: {_spoken(name): _rate(audit, model, name) for name in _names(audit)} for model in audit.models}


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _shift_table(audit: Audit) -> Table:
    keys = ("win_rate", "shift_in_std", "n", "unchanged")
    columns = (
        Column("Edit"), Column("Model"), Column("Edit wins", "percent"),
        Column("Reward moves by (std)", "signed", 2), Column("Answers", "count"), Column("Does not apply to", "count"),
    )  # fmt: skip
    rows = tuple(
        (_spoken(name), model, *(cell(find(audit.node, "hacks", model, name, key)) for key in keys))
        for name in _names(audit)
        for model in audit.models
    )
    return Table(columns=columns, rows=rows, caption="How each edit changes the reward")


def _examples(audit: Audit) -> tuple[Block, ...]:
    folded = [block for name in _names(audit) if (block := _example(audit, name)) is not None]
    return ("What was done, with the cases in which the edit gained most:", *folded) if folded else ()


def _example(audit: Audit, name: str) -> Details | None:
    blocks: list[Block] = []
    description = ""
    for model in audit.models:
        node = find(audit.node, "hacks", model, name)
        description = description or str(find(node, "description") or "")
        found = entries(find(node, "examples"))
        if found:
            blocks += [f"Scored by {model}:", *(quotes for example in found for quotes in _quotes(example))]
    if not blocks:
        return None
    return Details(_spoken(name).capitalize(), (description, *blocks) if description else tuple(blocks))


def _quotes(example: Node) -> tuple[Quotes, Quotes]:
    before, after = (estimate(example.get(key)) for key in ("reward_original", "reward_edited"))
    outcome = ""
    if isinstance(before, Estimate) and isinstance(after, Estimate):
        gain = after.value - before.value
        outcome = ": the edit wins" if gain > 0 else ": the original wins" if gain < 0 else ": a tie"
    prompt = Quotes((Quote("Prompt", str(example.get("prompt", ""))),))
    pair = Quotes(
        (
            Quote("Original", str(example.get("original", "")), _reward(before)),
            Quote("Edited", str(example.get("edited", "")), _reward(after) + outcome),
        )
    )
    return prompt, pair


def _reward(value: Estimate | Missing) -> str:
    return f"reward {number(value.value, digits=2)}" if isinstance(value, Estimate) else "reward not measured"


def benchmarks(audit: Audit) -> Section | None:
    """Tables of the public benchmarks among the splits; None where there are none."""
    found = audit.nodes("benchmark")
    splits = tuple(split for split in audit.splits if any(split in by_split for by_split in found.values()))
    if not splits:
        return None
    blocks: list[Block] = []
    for split in splits:
        blocks += _benchmark(split, {model: nodes[split] for model, nodes in found.items() if split in nodes})
    return Section("How does it do on public benchmarks?", tuple(blocks))


def _benchmark(split: str, nodes: Mapping[str, Node]) -> tuple[Block, ...]:
    first = next(iter(nodes.values()))
    blocks: list[Block] = []
    if first.get("complete") is False:
        blocks.append(f"{split}: some subsets are absent, so the overall score is not the published figure.")
    if first.get("domains"):
        blocks.append(_by_difficulty(split, nodes))
    for part, head in (("sections", "Section"), ("subsets", "Subset"), ("ties", "Part of the Ties score")):
        if first.get(part):
            blocks.append(_by_part(split, nodes, part=part, head=head))
    return tuple(blocks)


def _by_difficulty(split: str, nodes: Mapping[str, Node]) -> Table:
    names = ("easy", "normal", "hard")
    rows: list[tuple[Cell, ...]] = [
        (domain, model, *(cell(find(node, "domains", domain, name)) for name in (*names, "mean")))
        for domain in _keys(nodes, "domains")
        for model, node in nodes.items()
    ]
    for model, node in nodes.items():
        overall = (*(cell(find(node, "difficulty", name)) for name in names), cell(node.get("overall")))
        rows.append(("all", model, *overall))
    heads = (Column(name.capitalize(), "percent") for name in (*names, "mean"))
    return Table(
        columns=(Column("Domain"), Column("Model"), *heads),
        rows=tuple(rows),
        caption=f"{split}: accuracy by domain and difficulty. On hard pairs the wrong answer is the better dressed",
    )


def _by_part(split: str, nodes: Mapping[str, Node], *, part: str, head: str) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (_spoken(name), model, cell(find(node, part, name)))
        for name in _keys(nodes, part)
        for model, node in nodes.items()
    ]
    if part != "ties":
        rows += [("overall", model, cell(node.get("overall"))) for model, node in nodes.items()]
    return Table(
        columns=(Column(head), Column("Model"), Column("Score", "percent")),
        rows=tuple(rows),
        caption=f"{split}: {head.lower()} scores" if part != "ties" else f"{split}: the Ties score",
    )


def _keys(nodes: Mapping[str, Node], part: str) -> tuple[str, ...]:
    found = (find(node, part) for node in nodes.values())
    return tuple(dict.fromkeys(str(key) for node in found if isinstance(node, Mapping) for key in node))
