"""What a training run logged, as a section or a page."""

import json
from collections.abc import Mapping
from pathlib import Path

from trueup.report.figures import NARROW, Curve, training_curves
from trueup.report.page import Column, Figure, Page, Section, Table

# What is drawn, and under which name it is logged.
_QUANTITIES = {
    "loss": "loss",
    "accuracy on training pairs": "accuracy",
    "accuracy on held-out pairs": "eval_accuracy",
    "implied reward ranks training pairs": "rewards/accuracies",
    "implied reward ranks held-out pairs": "eval_rewards/accuracies",
    "spread of rewards": "reward_std",
    "mean reward": "mean_reward",
    "reward of samples": "reward",
    "KL to the reference (nats)": "kl",
    "tokens of a response": "completions/mean_length",
    "gradient norm": "grad_norm",
}

Log = tuple[Mapping[str, float], ...]


def read_log(path: Path) -> Log:
    """Lines of a `metrics.jsonl`."""
    return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def curves_of(log: Log) -> dict[str, Curve]:
    """Logged quantities over optimiser steps; those that were never logged are left out."""
    curves = {}
    for title, name in _QUANTITIES.items():
        points = [(line["step"], line[name]) for line in log if name in line]
        if points:
            steps, values = zip(*points, strict=True)
            curves[title] = Curve(steps, values)
    return curves


def training_section(runs: Mapping[str, Log]) -> Section:
    """Curves of one or several runs side by side."""
    heading = "How did training go?"
    curves = {name: drawn for name, log in runs.items() if (drawn := curves_of(log))}
    if not curves:
        return Section(heading, ("The run was too short to log anything; lower logging_steps to see its course.",))
    figure = Figure(
        svg=training_curves(curves),
        narrow=training_curves(curves, width=NARROW),
        title="Training curves",
        shows="What was logged over time: the loss, the share of pairs ranked right, the rewards' spread.",
        good="The loss falls and then flattens; rewards stay near zero and do not spread without end.",
    )
    return Section(heading, (figure,))


def training_page(name: str, log: Log, *, facts: Mapping[str, str], recipe: str) -> Page:
    """The page of one run."""
    last = {key: value for line in log for key, value in line.items()}
    rows = tuple((title, last[key]) for title, key in _QUANTITIES.items() if key in last)
    table = Table(
        columns=(Column("quantity"), Column("last value", "number", 4)), rows=rows, caption="Where the run ended"
    )
    return Page(
        title=f"Training of {name}",
        lead="What was logged while the model was trained. `trueup audit reward` says how far it can be trusted.",
        sections=(training_section({name: log}), Section("Last values", (table,))),
        provenance=facts,
        recipe=recipe,
    )
