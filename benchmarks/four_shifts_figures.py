"""Figures of `docs/evidence/bsr-real-data.md`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from four_shifts_claims import BASES, NAMES, Evidence
from four_shifts_plan import MAP, MAP_METHODS, METHODS, MINILM_MAP, TRACE_EPOCHS, TRACE_METHODS, Run
from four_shifts_run import STEP_ROWS
from four_shifts_stats import OUTSIDE, Measure, method_run, trace_run

from trueup.measure.scored import Estimate
from trueup.report.figures import Curve, Scale, forest, training_curves

AGAINST_BT = Scale(
    label="mean τ on unseen data, minus BT's", reference=0.0, left="worse than BT", right="better", digits=3
)
QUANTITIES = {
    "τ on unseen data": Measure("tau"),
    "accuracy in training": Measure("accuracy", ("train",)),
    "reward std, mutual": Measure("reward_std", ("mutual_disjoint",)),
}


def write_figures(evidence: Evidence, folder: Path) -> dict[str, str]:
    """Write the figures that the results allow; returns file names by figure."""
    drawings = {"gains": gains(evidence)}
    if evidence.plan.parts["trace"]:
        drawings["epochs"] = epochs(evidence)
    if evidence.plan.parts["map"]:
        drawings["map"] = condition_map(evidence)
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawings.items():
        (folder / f"bsr-real-data-{name}.svg").write_text(stand_alone(drawing), encoding="utf-8")
    return {name: f"bsr-real-data-{name}.svg" for name in drawings}


def stand_alone(svg: str) -> str:
    """The figure as a file of its own: on white, whatever the page around it."""
    sheet = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{sheet}", svg, count=1) + "\n"


def gains(evidence: Evidence) -> str:
    """Every method minus BT, on unseen data."""
    series: dict[str, Mapping[str, Estimate]] = {}
    for model, _, _ in evidence.models():
        for when in ("last", "best"):
            wanted = {run.key for run in evidence.plan.parts[model]}
            names = [name for name in METHODS if name != "BT" and method_run(BASES[model], name).key in wanted]
            label = f"{NAMES[model]}, {when} epoch"
            series[label] = {name: evidence.gain(model, name, Measure("tau", OUTSIDE, when)) for name in names}
    return forest(series, AGAINST_BT)


def epochs(evidence: Evidence) -> str:
    """The long runs: order, fit and spread over training."""
    seeds, runs = evidence.plan.seeds["trace"], {}
    for name in TRACE_METHODS:
        run = trace_run(name)
        first = evidence.results.by_key.get(replace(run, seed=0).key)
        per_epoch = -(-first["train_rows"] // STEP_ROWS) if first else 1
        runs[name] = {
            words: Curve(
                [epoch * per_epoch for epoch in TRACE_EPOCHS],
                [evidence.results.level(run, replace(measure, when=str(e)), seeds).value for e in TRACE_EPOCHS],
            )
            for words, measure in QUANTITIES.items()
        }
    return training_curves(runs)


def condition_map(evidence: Evidence) -> str:
    """BSR minus BT under each condition, after the last epoch."""
    series = {}
    for method in MAP_METHODS[1:]:
        rows = {}
        for base, points, part in ((Run(), MAP, "map"), (BASES["minilm"], MINILM_MAP, "minilm_map")):
            seeds = evidence.plan.seeds[part]
            for name, change in points.items():
                start = replace(base, **change)
                rows[name] = evidence.results.gain(replace(start, **METHODS[method]), start, Measure("tau"), seeds)
        series[method] = rows
    return forest(series, AGAINST_BT)
