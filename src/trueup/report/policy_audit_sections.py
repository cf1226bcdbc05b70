"""The sections of a page about policies and their reference: from its numbers to figures, tables and samples."""

from collections.abc import Mapping
from functools import partial

from trueup.report.audit_sections import dots, figure, folded
from trueup.report.audit_values import Node, cell, find, histogram, present
from trueup.report.figures import Scale, histograms
from trueup.report.page import Block, Column, Section, Table
from trueup.report.policy_audit_values import Policies
from trueup.report.text import Cell, Missing, estimate

_DIVERSITY = {
    "unique": "unique answers",
    "distinct_1": "distinct words",
    "distinct_2": "distinct word pairs",
    "distinct_3": "distinct triples",
    "self_bleu": "BLEU among answers",
}


def preference(view: Policies) -> Section:
    """Win rates, as they are and at equal length, and how far the judge can be believed."""
    heading = "Is it preferred to the reference?"
    if not view.judges:
        return Section(heading, (f"Not measured: {view.why('win_rates')}.",))
    values = {
        name: {
            row: view.estimate(name, "win_rates", judge, *path)
            for judge in view.judges
            for row, path in ((judge, ("headline",)), (f"{judge}, equal length", ("length_controlled", "rate")))
        }
        for name in view.names
    }
    scale = Scale(
        label="share of comparisons that the policy wins", limits=(0, 1), reference=0.5, style="percent",
        left="reference preferred", right="policy preferred",
    )  # fmt: skip
    drawn = dots(
        values,
        scale,
        "Win rate against the reference",
        shows=f"How often the policy's answer is preferred to the reference's answer to the same prompt, with "
        f"{view.level} intervals over prompts. Each comparison is asked in both orders and the two are averaged. Below "
        "it the same at equal length: what is left once the preference for longer (or shorter) answers is taken out.",
        good="Both well to the right of one half. Where only the upper one is, the policy wins by length.",
        missing=view.why("win_rates"),
    )
    return Section(heading, (*drawn, _wins(view), folded(_orders(view)), *_rewards(view)))


def _wins(view: Policies) -> Table:
    columns = {
        Column("Won", "percent"): ("headline",),
        Column("At equal length", "percent"): ("length_controlled", "rate"),
        Column("Change (points)", "points"): ("length_controlled", "change"),
        Column("Ties", "percent"): ("ties",),
        Column("Not the shorter", "percent"): ("length_controlled", "longer"),
        Column("Comparisons", "count"): ("comparisons",),
    }
    return _by_judge(view, columns, "Comparisons of the policy's answers with the reference's")


def _orders(view: Policies) -> Table:
    columns = {
        Column("Standing first", "percent"): ("first",),
        Column("Standing second", "percent"): ("second",),
        Column("Contradiction", "percent"): ("consistency", "excess"),
        Column("Leans to the first", "points"): ("consistency", "position_bias"),
        Column("Change sides", "percent"): ("consistency", "reversals"),
    }
    caption = "Does the judge agree with itself? Wins by the place of the answer, and |P(a > b) + P(b > a) - 1|"
    return _by_judge(view, columns, caption)


def _by_judge(view: Policies, columns: Mapping[Column, tuple[str, ...]], caption: str) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (judge, name, *(view.cell(name, "win_rates", judge, *path) for path in columns.values()))
        for judge in view.judges
        for name in view.names
    ]
    return Table(columns=(Column("Judge"), Column("Policy"), *columns), rows=tuple(rows), caption=caption)


def _rewards(view: Policies) -> tuple[Block, ...]:
    rows: list[tuple[Cell, ...]] = []
    for name in view.names:
        found = find(view.result(name), "rewards")
        for reward in found if isinstance(found, Mapping) else ():
            ends = ("policy", "reference", "difference")
            rows.append((str(reward), name, *(view.cell(name, "rewards", str(reward), end) for end in ends)))
    if not rows:
        return ()
    columns = (
        Column("Reward"), Column("Policy"), Column("Mean", "number", 2), Column("Reference's", "number", 2),
        Column("Difference", "signed", 2),
    )  # fmt: skip
    return (Table(columns=columns, rows=tuple(rows), caption="Rewards of the answers, in the reward's own units"),)


def variety(view: Policies) -> Section | None:
    """How far the policy has gone, and how much of the reference's variety it has kept."""
    if not view.known("samples"):
        return None
    first = {name: view.looks(name)[:1] for name in view.everyone}
    values = {
        name: {
            words: present(estimate(find(look, "diversity", key)))
            for look in looks
            for key, words in _DIVERSITY.items()
        }
        for name, looks in first.items()
    }
    drawn = dots(
        values,
        Scale(label="share among the answers to one prompt", limits=(0, 1), style="percent"),
        "Diversity of answers",
        shows=f"Among the {view.samples} answers to one prompt: how many differ, how many of their words, word pairs "
        "and triples differ, and how much each answer shares with the others (BLEU). Means over prompts.",
        good="Close to the reference's. Fewer distinct words and a higher BLEU mean that the policy says the same "
        "whenever it is asked.",
        missing=view.why("samples"),
    )
    return Section("How far has it gone, and what variety is left?", (_distance(view), *drawn, folded(_looks(view))))


def _distance(view: Policies) -> Table:
    columns = {
        Column("KL, nats a response", "number", 2): ("kl", "response"),
        Column("KL, nats a token", "number", 3): ("kl", "token"),
        Column("Entropy, nats a response", "number", 2): ("entropy", "response"),
        Column("Entropy, nats a token", "number", 3): ("entropy", "token"),
        Column("Characters over the reference's", "signed", 1): ("length_change", "characters"),
    }
    rows = [(name, *(_own(view, name, *path) for path in columns.values())) for name in view.everyone]
    caption = "KL to the reference on the policy's own samples, entropy (both at temperature 1), and length"
    return Table(columns=(Column("Policy"), *columns), rows=tuple(rows), caption=caption)


def _own(view: Policies, name: str, *path: str) -> Cell:
    if name == view.reference and path[0] in ("kl", "length_change"):
        return Missing("this is the reference")
    return view.cell(name, *path)


def _looks(view: Policies) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in view.everyone:
        for look in view.looks(name):
            shares = (cell(find(look, "diversity", key)) for key in _DIVERSITY)
            rows.append((name, temperature_of(look), *shares))
    heads = (Column(words[:1].upper() + words[1:], "percent") for words in _DIVERSITY.values())
    columns = (Column("Policy"), Column("Temperature"), *heads)
    return Table(columns=columns, rows=tuple(rows), caption="Diversity at every temperature")


def lengths(view: Policies) -> Section | None:
    """How long answers are, and how many ended by themselves."""
    node = view.node.get("lengths")
    counts = find(node, "counts")
    if not isinstance(counts, Mapping):
        return None
    panel = {
        name: histogram({"edges": find(node, "edges"), "counts": counts[name]})
        for name in view.everyone
        if name in counts
    }
    drawing = figure(
        partial(histograms, {f"at temperature {_first_temperature(view)}": panel}, f"length in {find(node, 'unit')}"),
        "How long answers are",
        shows="The lengths of all answers that were compared; the line marks the mean.",
        good="About where the reference's are. Preferences that favour length teach it.",
    )
    rows: list[tuple[Cell, ...]] = [
        (name, temperature_of(look), *(cell(look.get(key)) for key in ("tokens", "characters", "finished")))
        for name in view.everyone
        for look in view.looks(name)
    ]
    columns = (
        Column("Policy"), Column("Temperature"), Column("Tokens", "number", 1), Column("Characters", "number", 1),
        Column("Ended by itself", "percent"),
    )  # fmt: skip
    table = Table(columns=columns, rows=tuple(rows), caption="Mean length of answers, and how many were not cut")
    return Section("Are answers longer?", (drawing, table))


def _first_temperature(view: Policies) -> Cell:
    return next((temperature_of(look) for name in view.everyone for look in view.looks(name)), Missing())


def temperature_of(look: Node) -> Cell:
    """The temperature of what was drawn, for tables."""
    value = look.get("temperature")
    return f"{value:g}" if isinstance(value, int | float) else Missing()
