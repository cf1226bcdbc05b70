"""Tables of the page `docs/evidence/bsr-real-data.md`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import four_shifts_data as data
import numpy as np
from four_shifts_claims import NAMES, Evidence, Finding, hh_run, overall, signed
from four_shifts_plan import (
    LAMBDAS,
    MAP_METHODS,
    METHODS,
    MINILM,
    REDUCTIONS,
    TRACE_EPOCHS,
    TRACE_METHODS,
    Run,
)
from four_shifts_stats import OUTSIDE, RESAMPLING, Measure, at_spread, method_run, trace_run

from trueup.measure.bootstrap import paired_difference
from trueup.measure.scored import Estimate

EARLY = Measure("tau", OUTSIDE, "best")
SHORT = {"prompt_disjoint": "τ prompt", "response_disjoint": "τ response", "mutual_disjoint": "τ mutual"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table; the first columns are words, the others are numbers."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure_of(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    if not np.isfinite(value):
        return "-"
    tiny = value != 0 and abs(value) < 0.5 * 10**-digits
    return (f"{value:.1g}" if tiny else f"{value:.{digits}f}").replace("-", "−")


@dataclass(frozen=True)
class Writer:
    """Tables of the page."""

    evidence: Evidence

    def names(self, model: str) -> list[str]:
        """Methods that were run on a model."""
        wanted = {run.key for run in self.evidence.plan.parts[model]}
        return [name for name in METHODS if method_run(self._base(model), name).key in wanted]

    def _base(self, model: str) -> Run:
        return {"decoder": Run(), "minilm": MINILM}[model]

    def levels(self, model: str) -> str:
        """Seed means of every method after the last epoch."""
        columns: dict[str, tuple[Measure, int]] = {
            "in-domain accuracy": (Measure("accuracy", ("in_domain",)), 3),
            **{words: (Measure("tau", (split,)), 3) for split, words in SHORT.items()},
            "size of mean reward, train": (Measure("abs_mean", ("train",)), 2),
            "size of mean reward, mutual": (Measure("abs_mean", ("mutual_disjoint",)), 2),
            "reward std, train": (Measure("reward_std", ("train",)), 2),
            "reward std, in-domain": (Measure("reward_std", ("in_domain",)), 2),
            "reward std, mutual": (Measure("reward_std", ("mutual_disjoint",)), 2),
            "best epoch": (Measure("best_epoch"), 1),
        }
        return self._level_table(model, columns)

    def norms(self, model: str) -> str:
        """Norms in training and on unseen data, where the head reads and before the final norm."""
        columns = {
            f"{place}: {what}, {split.split('_')[0]}": (Measure(f"{prefix}norm_{kind}", (split,)), digits)
            for prefix, place in (("", "head input"), ("raw_", "before norm"))
            for kind, what, digits in (("mean", "mean", 2), ("cv", "std / mean", 4))
            for split in ("train", "mutual_disjoint")
        }
        columns["effective rank, mutual"] = (Measure("effective_rank", ("mutual_disjoint",)), 1)
        return self._level_table(model, columns)

    def _level_table(self, model: str, columns: Mapping[str, tuple[Measure, int]]) -> str:
        rows, seeds = [], self.evidence.plan.seeds[model]
        for name in self.names(model):
            run = method_run(self._base(model), name)
            cells = [
                figure_of(self.evidence.results.level(run, measure, seeds).value, digits)
                for measure, digits in columns.values()
            ]
            rows.append([name, *cells])
        return table(["method", *columns], rows)

    def gains(self, model: str) -> str:
        """Paired differences to BT."""
        columns = {
            "in-domain accuracy": Measure("accuracy", ("in_domain",)),
            **{words: Measure("tau", (split,)) for split, words in SHORT.items()},
            "mean of the three τ": Measure("tau"),
            "the same, best epoch of both": Measure("tau", OUTSIDE, "best"),
        }
        rows = [
            [name, *(signed(self.evidence.gain(model, name, measure)) for measure in columns.values())]
            for name in self.names(model)
            if name != "BT"
        ]
        return table(["method minus BT", *columns], rows)

    def controls(self, model: str) -> str:
        """BSR against what else would shrink rewards."""
        results, seeds, rows = self.evidence.results, self.evidence.plan.seeds[model], []
        columns = {
            "reward std, in-domain": (Measure("reward_std", ("in_domain",)), 2),
            "train accuracy": (Measure("accuracy", ("train",)), 3),
            "in-domain accuracy": (Measure("accuracy", ("in_domain",)), 3),
            "τ, last epoch": (Measure("tau"), 3),
            "τ, best epoch": (Measure("tau", when="best"), 3),
        }
        base = self._base(model)
        for name in self.names(model):
            if name == "BT" or name.startswith(("BSR", "centring", "weight")):
                run = method_run(base, name)
                levels = [figure_of(results.level(run, m, seeds).value, digits) for m, digits in columns.values()]
                # The fair opponent of every last epoch is BT stopped early.
                early, late = (results.values(r, m, seeds) for r, m in ((base, EARLY), (run, Measure("tau"))))
                rows.append([name, *levels, signed(paired_difference(early, late, resampling=RESAMPLING))])
        return table(["method", *columns, "τ, last epoch − BT stopped early"], rows)

    def matched(self, model: str) -> str:
        """BSR minus each control at the control's own reward spread."""
        columns = {
            "in-domain accuracy": Measure("accuracy", ("in_domain",)),
            "mean of the three τ, last epoch": Measure("tau"),
            "the same, best epoch": EARLY,
        }
        rows = []
        for name in self.names(model):
            if name.startswith(("centring", "weight")):
                gains = [self.matched_gain(model, name, measure) for measure in columns.values()]
                rows.append([name, *(signed(gain) for gain in gains), str(gains[0].n)])
        return table(["BSR at equal reward std, minus", *columns, "seeds"], rows)

    def matched_gain(self, model: str, name: str, measure: Measure) -> Estimate:
        """BSR, interpolated to a control's in-domain reward std in each seed, minus the control."""
        results, base, seeds = self.evidence.results, self._base(model), self.evidence.plan.seeds[model]
        control = method_run(base, name)
        spread = results.values(control, Measure("reward_std", ("in_domain",)), seeds)
        bsr = at_spread(results, base, measure, spread=spread)
        return paired_difference(results.values(control, measure, seeds), bsr, resampling=RESAMPLING)

    def map_rows(self, points: Mapping[str, Mapping[str, Any]], base: Run, seeds: int) -> str:
        """BT's level and BSR's gain under each condition."""
        rows = []
        for name, change in points.items():
            start = replace(base, **change)
            cells = [
                figure_of(self.evidence.results.level(start, measure, seeds).value, digits)
                for measure, digits in ((Measure("tau"), 3), (EARLY, 3), (Measure("best_epoch"), 1))
            ]
            for when in ("last", "best"):
                for method in MAP_METHODS[1:]:
                    run = replace(start, **METHODS[method])
                    cells.append(signed(self.evidence.results.gain(run, start, Measure("tau", OUTSIDE, when), seeds)))
            rows.append([name, *cells])
        gains = [f"{method}, {when}" for when in ("last epoch", "best epoch") for method in MAP_METHODS[1:]]
        return table(["condition", "BT: τ, last", "BT: τ, best", "BT: best epoch", *gains], rows)

    def dispersion(self, points: Mapping[str, Mapping[str, Any]], base: Run, seeds: int) -> str:
        """How far norms and rewards spread under each condition, with BT and with the strongest BSR."""
        rows, methods = [], ("BT", MAP_METHODS[-1])
        for name, change in points.items():
            cells = []
            for metric, digits in (("norm_cv", 4), ("reward_std", 2)):
                for method in methods:
                    run = replace(base, **(dict(change) | dict(METHODS[method])))
                    levels = [
                        figure_of(self.evidence.results.level(run, Measure(metric, (split,)), seeds).value, digits)
                        for split in ("train", "mutual_disjoint")
                    ]
                    cells.append(" → ".join(levels))
            rows.append([name, *cells])
        heads = [f"{words}, {method}" for words in ("norm std / mean", "reward std") for method in methods]
        return table(["condition", *heads], rows)

    def epochs(self) -> str:
        """Gain by number of epochs, on the long runs."""
        seeds, rows = self.evidence.plan.seeds["trace"], []
        base = trace_run("BT")
        for epoch in TRACE_EPOCHS[1:]:
            when = str(epoch)
            cells = [
                figure_of(self.evidence.results.level(base, Measure("accuracy", ("train",), when), seeds).value),
                figure_of(self.evidence.results.level(base, Measure("tau", OUTSIDE, when), seeds).value),
            ]
            for name in TRACE_METHODS[1:]:
                gain = self.evidence.results.gain(trace_run(name), base, Measure("tau", OUTSIDE, when), seeds)
                cells.append(signed(gain))
            rows.append([when, *cells])
        return table(["epochs", "BT: train accuracy", "BT: τ", *TRACE_METHODS[1:]], rows)

    def reductions(self) -> str:
        """The same lambda under the three normalisers."""
        results, seeds, rows = self.evidence.results, self.evidence.plan.seeds["reduction"], []
        applied = {"official": "λb = 0.16", "mean": "λ = 0.01", "sum": "4λb² = 10.24"}
        for name in REDUCTIONS:
            run = replace(Run(), method="bsr", coefficient=1e-2, reduction=name)
            spread = results.level(run, Measure("reward_std", ("in_domain",)), seeds).value
            accuracy = results.level(run, Measure("accuracy", ("in_domain",)), seeds).value
            gain = results.gain(run, Run(), Measure("tau"), seeds)
            rows.append([name, applied[name], figure_of(spread, 2), figure_of(accuracy), signed(gain)])
        head = ["reduction", "coefficient of m²", "reward std, in-domain", "in-domain accuracy", "τ minus BT"]
        return table(head, rows)

    def preferences(self) -> str:
        """HH accuracy against the length baseline, and RM-Bench chat."""
        results, seeds, rows = self.evidence.results, self.evidence.plan.seeds["hh"], []
        for name in ("harmless", "helpful"):
            longer = data.longer_wins(data.read(f"hh-rlhf-{name}/test.jsonl.gz"))
            for method in MAP_METHODS:
                run = hh_run(method, name)
                accuracy = results.level(run, Measure("accuracy", ("test",)), seeds)
                best = results.level(run, Measure("accuracy", ("test",), "best"), seeds)
                bench = [
                    figure_of(results.level(run, Measure(level, ("rm_bench",)), seeds).value)
                    for level in ("easy", "normal", "hard")
                ]
                rows.append(
                    [f"HH-{name}", method, level_of(accuracy), figure_of(best.value), figure_of(longer), *bench]
                )
        head = ["data", "method", "test accuracy, last", "best epoch", "longer wins", "RM-Bench easy", "normal", "hard"]
        return table(head, rows, words=2)

    def checks(self, checks: Sequence[Mapping[str, Any]]) -> str:
        """What must shrink with lambda."""
        rows = []
        for check in checks:
            values = [figure_of(value, 2) for value in check["values"].values()]
            rows.append([check["name"], *values, "yes" if check["passed"] else "no"])
        return table(["seed means", "BT", *(f"λ = {lam:g}" for lam in LAMBDAS), "shrinks"], rows)

    def verdicts(self, findings: Sequence[Finding]) -> str:
        """Claim by claim, with the numbers."""
        rows = [[one.claim, one.model, one.setting, one.measured, one.verdict] for one in findings]
        return table(["claim", "model", "setting", "measured", "verdict"], rows, words=5)

    def short(self, findings: Sequence[Finding]) -> str:
        """One verdict for each claim and model."""
        models = [NAMES[model] for model, _, _ in self.evidence.models()]
        rows = []
        for claim in dict.fromkeys(one.claim for one in findings):
            mine = [one for one in findings if one.claim == claim]
            rows.append([claim, *(overall([one for one in mine if one.model == model]) for model in models)])
        filled = [[cell.replace("not measured", "-") for cell in row] for row in rows]
        return table(["claim", *models], filled, words=1 + len(models))


def level_of(estimate: Estimate) -> str:
    """A level with its interval."""
    if not np.isfinite(estimate.low):
        return figure_of(estimate.value)
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
