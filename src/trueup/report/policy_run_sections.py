"""The sections of a page about runs: from its numbers to figures, tables and samples."""

from collections.abc import Mapping, Sequence
from functools import partial

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure, folded
from trueup.report.audit_values import Node, entries, find
from trueup.report.frontier import Frontier, frontiers, over_steps
from trueup.report.page import Block, Column, Quote, Quotes, Section, Table
from trueup.report.policy_run_values import Runs
from trueup.report.text import Cell, Missing, number

_LONGEST = 1500
_Panels = dict[str, dict[str, tuple[Sequence[float], Sequence[Estimate]]]]
_TITLES = {"gold": "gold", "proxy": "the proxy itself"}
_DRIFTS = {
    ("tokens",): "length in tokens",
    ("kl",): "KL to the initial policy (nats a response)",
    ("ended",): "share that ended by itself",
    ("drift", "repetition"): "share of three-word sequences said before",
    ("drift", "distinct_2"): "share of word pairs that differ (distinct-2)",
    ("drift", "similarity_to_start"): "METEOR against the initial policy's answers",
    ("drift", "similarity_between_prompts"): "METEOR between answers to different prompts",
}
_TRAINED = {
    "proxy": "reward of training rollouts",
    "entropy": "entropy (nats a token)",
    "equal_groups": "share of groups with equal rewards",
}


def frontier(runs: Runs) -> Section:
    """Reward and gold against the square root of KL, all runs in one picture."""
    panels: dict[str, dict[str, Frontier]] = {}
    units = {quantity: unit for quantity in _TITLES if (unit := runs.unit(quantity)) is not None}
    in_spreads = all(known for _, known in units.values())
    for quantity, (spread, _) in units.items():
        title = _TITLES[quantity]
        found = {run: runs.frontier(run, quantity, spread if in_spreads else 1.0) for run in runs.names}
        if drawn := {run: one for run, one in found.items() if one is not None}:
            panels[title] = drawn
    heading = "What does distance buy?"
    if not panels:
        return Section(
            heading, ("KL to the initial policy or the rewards are not known, so no frontier can be drawn.",)
        )
    drawing = figure(
        partial(frontiers, panels, unit="std above the start" if in_spreads else "change from the start"),
        "Reward against distance",
        shows="Every watched point: the change from the initial policy of gold and of the proxy on the same prompts, "
        "each prompt against itself, with intervals over prompts. The dotted line is the law fitted to gold, "
        "d (alpha − beta log d); the diamond is its peak, where the data show one.",
        good="Gold that rises with the proxy to the end, and of two runs the one that lies higher at equal distance. "
        "Where gold turns down, more optimisation makes responses worse.",
    )
    return Section(heading, (drawing, folded(_points(runs))))


def _points(runs: Runs) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for run in runs.names:
        series = [runs.along(run, name) for name in ("kl", "proxy", "gold", "gold_gain")]
        for place, step in enumerate(runs.steps(run)):
            rows.append((run, int(step), *(values[place] if values else Missing() for values in series)))
    columns = (
        Column("Run"), Column("step", "count"), Column("KL, nats", "number", 2), Column("Proxy", "number", 2),
        Column("Gold", "number", 2), Column("Gold over the start", "signed", 2),
    )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), caption="Means over the watched prompts, in their own units")


def laws(runs: Runs) -> Section | None:
    """The fitted laws and their peaks."""
    if runs.unit("gold") is None:
        return None
    rows = tuple(
        (run, runs.verdict(run), *(runs.cell(run, "law", key) for key in _LAW), runs.cell(run, "forms", "better"))
        for run in runs.names
    )
    columns = (
        Column("Run"), Column("Verdict"), Column("Peak, sqrt nats", "number", 2), Column("Gold there", "signed", 2),
        Column("alpha", "number", 3), Column("beta", "number", 3), Column("Residual", "number", 3),
        Column("Noise", "number", 3), Column("Better form"),
    )  # fmt: skip
    caption = "The law d (alpha − beta log d) fitted to gold over the start, in gold's units"
    text = (
        "A peak is stated where the fitted law turns before the end in 95% of resamples of prompts, and gold at the "
        "end is below the best point by more than noise, that point being chosen on other prompts."
    )
    return Section("Where does gold peak?", (text, Table(columns=columns, rows=rows, caption=caption)))


_LAW = ("peak_d", "peak_gold", "alpha", "beta", "rms", "noise")


def drifts(runs: Runs) -> Section | None:
    """What changes in the responses over steps."""
    panels: _Panels = {}
    for path, title in _DRIFTS.items():
        for run in runs.names:
            if values := runs.along(run, *path):
                panels.setdefault(title, {})[run] = (runs.steps(run), values)
    panels |= _training(runs)
    if not panels:
        return None
    drawing = figure(
        partial(over_steps, panels),
        "Drift over steps",
        shows="Means at every watched step with intervals over prompts, and what the run logged of its training "
        "rollouts. None of this needs gold.",
        good="Flat lines. Answers that grow, repeat themselves, no longer end, or resemble each other whatever was "
        "asked, and an entropy that collapses, are what over-optimisation often looks like from outside.",
    )
    return Section("What else changes?", (drawing,))


def _training(runs: Runs) -> _Panels:
    panels: _Panels = {}
    for name, title in _TRAINED.items():
        for run in runs.names:
            series = find(runs.result(run), "training", name)
            if isinstance(series, Mapping) and series.get("steps"):
                pairs = list(zip(series["steps"], series["values"], strict=True))
                values = [Estimate(float("nan") if v is None else v, float("nan"), float("nan"), 0) for _, v in pairs]
                panels.setdefault(title, {})[run] = ([step for step, _ in pairs], values)
    return panels


def warnings(runs: Runs) -> Section | None:
    """What the alarm without gold says of each run."""
    rows: list[tuple[Cell, ...]] = []
    for run in runs.names:
        found = runs.result(run).get("warning")
        if not isinstance(found, Mapping):
            continue
        stated, first, seen = found.get("probability"), found.get("step"), found.get("signals")
        last = stated[-1] if isinstance(stated, list) and stated else None
        words = ", ".join(str(one).replace("_", " ") for one in seen) if isinstance(seen, list) else ""
        rows.append((run, first if isinstance(first, int) else "no warning", last, words))
    if not rows:
        return None
    columns = (
        Column("Run"), Column("warns from step", "count"), Column("stated chance at the end", "percent", 2),
        Column("what it looks at"),
    )  # fmt: skip
    text = (
        "A warning that sees no gold states the chance that gold has fallen below an earlier value. It was learned "
        "from best-of-n in a small language world, where it told falls no better than KL alone, and a run of "
        "reinforcement learning spends far more KL for the same gain: here it is a hint, and no more."
    )
    return Section(
        "Would one have been warned without gold?",
        (text, Table(columns=columns, rows=tuple(rows), caption="The warning without gold")),
    )


def samples(runs: Runs) -> Section | None:
    """What the policies said at the start, at gold's peak, and at the end."""
    blocks: list[Block] = []
    for run in runs.names:
        node = find(runs.result(run), "examples")
        found = entries(find(node, "prompts"))
        if not found:
            continue
        blocks.append(f"{run}: the first response at each step. Shown are {find(node, 'rule')}.")
        middle = str(find(node, "middle") or "")
        blocks += [_sample(one, middle=middle) for one in found]
    return Section("What did it say along the way?", tuple(blocks)) if blocks else None


def _sample(node: Node, *, middle: str) -> Quotes:
    choices = entries(node.get("choices"))
    return Quotes(
        (
            Quote("prompt", _cut(str(node.get("prompt", "")))),
            *(_choice(one, place, len(choices), middle=middle) for place, one in enumerate(choices)),
        )
    )


def _choice(node: Node, place: int, count: int, *, middle: str) -> Quote:
    name = "the start" if place == 0 else "the end" if place == count - 1 else middle
    values = [
        f"{word} {number(float(value), 'number' if key == 'kl' else 'signed', digits=2)}"
        for key, word in (("proxy", "proxy"), ("gold", "gold"), ("kl", "KL"))
        if isinstance(value := node.get(key), int | float)
    ]
    return Quote(f"step {node.get('step')}: {name}", _cut(str(node.get("text", ""))), note="; ".join(values))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} more characters)"
