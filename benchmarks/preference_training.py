"""Training on preferences against TRL's DPOTrainer: the same model, the same batches, the same losses.

    python benchmarks/preference_training.py [--quick] [--json FILE] [--only 25m]

DPO on HH pairs of at most 1024 tokens, 8 a step, with a random Llama of 25M parameters, 12.6M of them the tied
embedding of 32,768 tokens; `--quick` takes a smaller model. The reference is the start. *Whole*: TRL asks its reference
in every step, which is its default; ours asks once before the first step, and that time is shared out over the steps.
*Cached*: both have asked before, and only steps are counted. Ours takes 1,024 token slots a pass. TRL is measured with
all pairs of a step in a pass, with one in a pass, and with its default gradient checkpointing. `--quick`: the first.
Times are those of the processor where there is one thread, of the clock where there are more.
"""

import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import preference_training_sides as sides

STEP = 8
CASES = {"25m": "25m_32k", "5m": "5m_32k"}
SETTINGS = {
    "trueup": {"side": "trueup"},
    "trl": {"side": "trl"},
    "trl_1_a_pass": {"side": "trl", "per_pass": 1},
    "trl_defaults": {"side": "trl", "checkpointing": True},
    "trl_cached_1_a_pass": {"side": "trl", "cached": True, "per_pass": 1},
}
QUICK = ("trueup", "trl", "trl_cached_1_a_pass")
TOLERANCE = 2e-4
AIM, MEMORY_AIM = 4.0, 0.5

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def worker(request: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process."""
    import torch

    torch.set_num_threads(request["threads"])
    train = sides.train_trueup if request["side"] == "trueup" else sides.train_trl
    return train(Path(request["folder"]), request) | {"peak_mib": harness.peak_memory()}


def step_seconds(run: Mapping[str, Any], kind: str) -> float:
    """Mean of a run's steps without the first, which pays for every kernel's first call; both sides' are the same."""
    steps = run["steps"][kind][1:] or run["steps"][kind]
    return float(sum(steps) / len(steps))


def with_reference(run: Mapping[str, Any], kind: str) -> float:
    """A step, and its share of what asking the reference beforehand took."""
    return step_seconds(run, kind) + run["reference"][kind] / len(run["steps"][kind])


def summary(case: str, facts: Mapping[str, Any], runs: Runs, *, kind: str) -> dict[str, Any]:
    """Medians of all sides, and ratios, each of neighbours in time.

    Args:
        case: Its name.
        facts: What was trained on.
        runs: The measurements of each side.
        kind: Whose seconds count: `clock` or `processor`.
    """
    steps = {name: [step_seconds(run, kind) for run in many] for name, many in runs.items()}
    whole = {name: [with_reference(run, kind) for run in many] for name, many in runs.items()}
    ratios = {
        name: _ratio(found["trueup"], found[name])
        for found, cached in ((whole, False), (steps, True))
        for name in runs
        if name != "trueup" and ("cached" in name) == cached
    }
    memory = {name: harness.median([run["peak_mib"] for run in many]) for name, many in runs.items()}
    return {
        "case": case,
        "data": facts,
        "ratio": ratios,
        "memory_ratio": {name: memory["trueup"] / memory[name] for name in memory if name != "trueup"},
        "seconds_of": kind,
        "step_seconds": {name: harness.median(many) for name, many in steps.items()},
        "reference_seconds": {
            name: harness.median([run["reference"][kind] for run in many]) for name, many in runs.items()
        },
        "pairs_per_second": {name: STEP / harness.median(many) for name, many in whole.items()},
        "peak_mib": memory,
        "losses": {name: many[0]["losses"] for name, many in runs.items()},
        "missed": [name for name in ratios if ratios[name] < AIM]
        + (["memory"] if memory["trueup"] > MEMORY_AIM * min(memory[name] for name in ratios) else []),
        "checks": _checks(case, runs),
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return harness.median([other / own for own, other in zip(ours, theirs, strict=True)])


def _checks(case: str, runs: Runs) -> list[dict[str, Any]]:
    """Equal losses, and losses that say something: at the start all are log 2."""
    losses = runs["trueup"][0]["losses"]
    found = []
    for name in runs:
        if name != "trueup":
            apart = max(abs(a - b) for a, b in zip(losses, runs[name][0]["losses"], strict=True))
            found.append(
                {"name": f"{case}: equal loss at every step, {name}", "passed": apart < TOLERANCE, "difference": apart}
            )
    moved = max(abs(loss - math.log(2)) for loss in losses)
    return [*found, {"name": f"{case}: the policy has left its reference", "passed": moved > 0.01, "moved": moved}]


def run(case: str, *, steps: int, repeats: int, threads: int, settings: Sequence[str]) -> dict[str, Any]:
    """All settings of one case in turn."""
    with tempfile.TemporaryDirectory() as name:
        facts = sides.prepare(Path(name), size=CASES[case], pairs=steps * STEP)

        def side(setting: str) -> Any:
            request = {"folder": name, "threads": threads, "step": STEP} | SETTINGS[setting]
            return lambda: harness.in_process(Path(__file__), request, threads=threads)

        runs = harness.alternate({setting: side(setting) for setting in settings}, repeats=repeats)
    return summary(case, facts, runs, kind="processor" if threads == 1 else "clock")


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(json.loads(sys.argv[2]))))
        return
    wanted = harness.arguments(__doc__ or "")
    names = wanted.only or ["5m" if wanted.quick else "25m"]
    parts = [
        run(
            name,
            steps=3 if wanted.quick else 5,
            repeats=wanted.repeats or (1 if wanted.quick else 3),
            threads=wanted.threads,
            settings=QUICK if wanted.quick else list(SETTINGS),
        )
        for name in names
    ]
    checks = [check for part in parts for check in part["checks"]]
    cases = {part["case"]: part for part in parts}
    harness.finish(
        {"benchmark": "preference_training", "threads": wanted.threads, "cases": cases, "checks": checks}, wanted.json
    )


if __name__ == "__main__":
    main()
