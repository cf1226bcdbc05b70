"""The last sections of a page about policies: the implicit reward, what was said, and what was not measured."""

from collections.abc import Mapping, Sequence
from functools import partial

from trueup.report.audit_sections import dots, figure, folded
from trueup.report.audit_values import Node, entries, find, points
from trueup.report.figures import Scale, reliability
from trueup.report.page import Block, Column, Quote, Quotes, Section, Table
from trueup.report.policy_audit_values import Policies
from trueup.report.text import Cell, number

_LONGEST = 1500
PARTS = {
    "samples": "Responses, lengths, diversity",
    "win_rates": "Win rate against the reference",
    "rewards": "Rewards of responses",
    "kl": "KL to the reference",
    "entropy": "Entropy",
    "length_change": "Length against the reference's",
    "pass_at_k": "pass@k",
    "implicit_reward": "Implicit reward on held-out pairs",
}


def implicit(view: Policies) -> Section:
    """What the policy's own reward knows of held-out pairs."""
    heading = "Does its implicit reward know the better answer?"
    known = [name for name in view.names if view.result(name).get("implicit_reward")]
    if not known:
        return Section(heading, (f"Not measured: {view.why('implicit_reward')}.",))
    rows = {"its implicit reward": "accuracy", "the reference alone": "reference_accuracy"}
    drawn = dots(
        {name: {row: view.estimate(name, "implicit_reward", key) for row, key in rows.items()} for name in known},
        Scale(label="pair accuracy", reference=0.5, name="chance", style="percent", digits=3),
        "Accuracy on held-out pairs",
        shows="How often the chosen answer of a pair gets the higher reward that the method takes its policy to imply, "
        "and how often the reference alone finds it the likelier one. What lies between was learned.",
        good="To the right of chance and of the reference.",
        missing=view.why("implicit_reward"),
    )
    formulas = tuple(f"Reward of {name}: {find(view.result(name), 'implicit_reward', 'formula')}." for name in known)
    return Section(
        heading, (*drawn, *formulas, *_confidence(view, known), _moved(view, known), folded(_more(view, known)))
    )


def _confidence(view: Policies, known: Sequence[str]) -> tuple[Block, ...]:
    found = {name: points(find(view.result(name), "implicit_reward", "calibration", "curve")) for name in known}
    curves = {name: {"held-out pairs": curve} for name, curve in found.items() if curve}
    if not curves:
        return ()
    drawing = figure(
        partial(reliability, curves),
        "Confidence against accuracy",
        shows="Pairs grouped by how sure the implicit reward is (sigmoid of its margin), and how often each group is "
        "right. Larger marks hold more pairs.",
        good="Marks on the dashed line. Methods that aim at a fixed margin are not made for it.",
    )
    return (drawing,)


def _moved(view: Policies, known: Sequence[str]) -> Table:
    columns = {
        Column("Margin", "signed"): ("margin",),
        Column("Chosen, nats", "signed", 2): ("chosen",),
        Column("Rejected, nats", "signed", 2): ("rejected",),
        Column("Chosen less likely", "percent"): ("chosen_less_likely",),
        Column("Pairs", "count"): ("pairs",),
    }
    caption = "How log-probabilities moved from the reference, in nats a response; a margin may grow while both fall"
    return _table(view, known, columns, caption)


def _more(view: Policies, known: Sequence[str]) -> Table:
    columns = {
        Column("Accuracy", "percent"): ("accuracy",),
        Column("Ties", "count"): ("ties",),
        Column("Longer-wins rule", "percent"): ("length", "longer_wins"),
        Column("Over the rule (points)", "points"): ("length", "over_longer_wins"),
        Column("Chosen shorter", "percent"): ("length", "chosen_shorter"),
        Column("Calibration error", "percent"): ("calibration", "ece"),
        Column("Log loss (nats)", "number"): ("calibration", "nll"),
    }
    return _table(view, known, columns, "The implicit reward beside the rule that the longer answer is better")


def _table(view: Policies, known: Sequence[str], columns: Mapping[Column, tuple[str, ...]], caption: str) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, *(view.cell(name, "implicit_reward", *path) for path in columns.values())) for name in known
    ]
    return Table(columns=(Column("Policy"), *columns), rows=tuple(rows), caption=caption)


def samples(view: Policies) -> Section | None:
    """What everyone said to a few prompts."""
    node = view.node.get("examples")
    found = entries(find(node, "prompts"))
    if not found:
        return None
    rule = f"Shown are {find(node, 'rule')}; nothing was picked by its outcome."
    return Section("What do they say?", (rule, *(block for one in found for block in _sample(one))))


def _sample(node: Node) -> tuple[Quotes, Quotes]:
    prompt = Quote("prompt", _cut(str(node.get("prompt", ""))))
    return Quotes((prompt,)), Quotes(tuple(_answer(one) for one in entries(node.get("responses"))))


def _answer(node: Node) -> Quote:
    notes = [] if node.get("finished") else ["cut at the length limit"]
    correct = node.get("correct")
    if correct is not None:
        notes.append("right" if correct else "wrong")
    for name, value in _items(node.get("rewards")):
        notes.append(f"{name} {number(value, 'signed', digits=2)}")
    for name, value in _items(node.get("wins")):
        outcome = "tie" if abs(value - 0.5) < 1e-9 else "wins" if value > 0.5 else "loses"
        notes.append(f"{outcome} by {name} ({number(value, 'percent', digits=2)})")
    label = f"{node.get('name')} (reference)" if node.get("reference") else str(node.get("name"))
    return Quote(label, _cut(str(node.get("text", ""))), note="; ".join(notes))


def _items(node: object) -> list[tuple[str, float]]:
    if not isinstance(node, dict):
        return []
    return [(str(name), float(value)) for name, value in node.items() if isinstance(value, int | float)]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} more characters)"


def subjects(view: Policies) -> Section:
    """Which policies these are, and what was not measured of them."""
    rows: list[tuple[Cell, ...]] = []
    for name in view.everyone:
        result = view.result(name)
        rows.append((name, str(result.get("source", "")), str(result.get("trained") or "not known")))
    columns = (Column("Policy"), Column("Place"), Column("Trained by"))
    table = Table(columns=columns, rows=tuple(rows), caption="Policies; the reference stands last")
    return Section("What was audited, and what was not", (table, *_absent(view)))


def _absent(view: Policies) -> tuple[Block, ...]:
    rows: list[tuple[Cell, ...]] = []
    for part, words in PARTS.items():
        for name in view.everyone:
            reason = find(view.result(name), "absent", part)
            if reason is not None:
                rows.append((words, name, str(reason)))
    if not rows:
        return ()
    columns = (Column("Not measured"), Column("Policy"), Column("Why"))
    return (Table(columns=columns, rows=tuple(rows), caption="What was not measured, and why"),)
