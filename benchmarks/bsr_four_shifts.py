"""Does BSR make reward models more robust on real text, and when? The paper's four scenarios at laptop scale.

    python benchmarks/bsr_four_shifts.py [--quick] [--json FILE] [--cache DIR] [--workers 1|2] [--page FILE]

Trains and tests some hundreds of small reward models; `--cache` keeps each result, so that a stopped run goes on.
The full run writes `docs/evidence/bsr-real-data.md` and its figures; `--quick` writes a page only where `--page`
says so.
"""

import argparse
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import four_shifts_work as workers
import harness
from four_shifts_plan import METHODS, Plan, make_plan

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "bsr-real-data.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few runs of the decoder; figures are rough")
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "trueup-four-shifts")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=2, help="processes of one thread each")
    parser.add_argument("--page", type=Path, help="where the page goes")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    plan = make_plan(quick=options.quick)
    if options.worker is not None:
        workers.work(plan, options.cache, options.worker)
        return
    harness.data_folder()
    workers.run_all(Path(__file__), options.cache, quick=options.quick, workers=options.workers)
    page = options.page or (None if options.quick else PAGE)
    harness.finish(report(plan, options.cache, page) | {"quick": options.quick}, options.json)


def report(plan: Plan, cache: Path, page: Path | None) -> dict[str, Any]:
    """All figures for JSON; writes the page where one is asked for."""
    from four_shifts_claims import Evidence, all_findings
    from four_shifts_figures import write_figures
    from four_shifts_page import page as words
    from four_shifts_run import settings
    from four_shifts_stats import Results, shrink_checks
    from four_shifts_tables import Writer

    stored = workers.read_results(cache, settings())
    evidence = Evidence(Results(stored, plan.seeds), plan)
    findings, checks = all_findings(evidence), shrink_checks(evidence.results, plan)
    used = [stored[run.key] for run in plan.runs if run.key in stored]
    facts = {
        "runs": len(used),
        "minutes": round(sum(result["seconds"] for result in used) / 60),
        "checks": f"{sum(check['passed'] for check in checks)} of {len(checks)} hold",
    }
    if page is not None:
        figures = write_figures(evidence, page.parent)
        table = Writer(evidence).checks(checks)
        page.write_text(words(evidence, findings, figures, facts | {"table": table}), encoding="utf-8")
    return {
        "name": "bsr_four_shifts",
        "ratio": None,
        **facts,
        "checks": checks,
        "claims": [asdict(finding) for finding in findings],
        "levels": levels(evidence),
        "every_run": {result["key"]: compact(result) for result in used},
    }


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """A run's main numbers, at every epoch at which it was evaluated."""
    kept = ("accuracy", "tau", "reward_mean", "reward_std", "norm_mean", "norm_std", "easy", "normal", "hard")

    def table(values: dict[str, Any]) -> dict[str, Any]:
        splits = {name: one for name, one in values.items() if isinstance(one, dict)}
        return {
            name: {m: round(one[m], 4) for m in kept if math.isfinite(one.get(m, math.nan))}
            for name, one in splits.items()
        }

    epochs = {epoch: table(values) for epoch, values in result["epochs"].items()}
    return {"best_epoch": result["best_epoch"], "best": table(result["best"]), "epochs": epochs}


def levels(evidence: Any) -> dict[str, Any]:
    """Seed means with intervals of every method of the main tables, by model, method, time and split."""
    from four_shifts_stats import Measure, as_list, method_run

    metrics = ("accuracy", "tau", "reward_mean", "reward_std", "norm_mean", "norm_std", "raw_norm_mean", "raw_norm_std")
    splits = ("train", "in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")
    table: dict[str, Any] = {}
    for model, base, seeds in evidence.models():
        keys = {run.key for run in evidence.plan.parts[model]}
        for name in METHODS:
            run = method_run(base, name)
            if run.key not in keys:
                continue
            for when in ("last", "best"):
                for split in splits:
                    place = table.setdefault(model, {}).setdefault(name, {}).setdefault(when, {})
                    place[split] = {
                        metric: as_list(evidence.results.level(run, Measure(metric, (split,), when), seeds))
                        for metric in metrics
                    }
    return table


if __name__ == "__main__":
    main()
