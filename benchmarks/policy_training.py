"""Online training against TRL's RLOOTrainer and GRPOTrainer: same policy, reward model, prompts and method.

    python benchmarks/policy_training.py [--quick] [--json FILE] [--only 5m_rloo 5m_long_rloo 5m_grpo 25m_rloo]

Each step asks some prompts (about 100 tokens; `long` about 400), draws 8 responses of at most 64 tokens to each, scores
them with a reward model of the policy's size, and learns from them once; both hold a reference. The policy may end a
response, but as it is random it does so once in several thousand tokens. TRL is measured with all samples in one pass,
with 8 in a pass, and with its default gradient checkpointing, but only the first way by `--quick`; *fastest* is the
faster of the first two. Times are those of the processor where there is one thread, of the clock where there are more.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import policy_training_check as check
import policy_training_sides as sides

SAMPLES = 8
CASES = {
    "5m_rloo": {"size": "5m", "method": "rloo", "prompts": 4, "tokens": 100},
    "5m_long_rloo": {"size": "5m", "method": "rloo", "prompts": 4, "tokens": 400},
    "5m_grpo": {"size": "5m", "method": "grpo", "prompts": 4, "tokens": 100},
    "25m_rloo": {"size": "25m", "method": "rloo", "prompts": 4, "tokens": 100},
}
SETTINGS = {
    "trueup": {"side": "trueup"},
    "trl": {"side": "trl"},
    "trl_8_a_pass": {"side": "trl", "per_pass": 8},
    "trl_defaults": {"side": "trl", "checkpointing": True},
}
QUICK = ("trueup", "trl")
AIMS = {"step": 3.0, "generate": 1.5, "score": 3.0, "memory": 0.7}

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def worker(request: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process."""
    import torch

    torch.set_num_threads(request["threads"])
    folder = Path(request["folder"])
    if request["side"] == "check":
        return check.compare(folder, request)
    train = sides.train_trueup if request["side"] == "trueup" else sides.train_trl
    return train(folder, request) | {"peak_mib": harness.peak_memory()}


def spent(run: Mapping[str, Any], *, clock: int) -> dict[str, float]:
    """Median seconds of the step and of its parts, without the first step, which pays for every kernel's first call."""
    steps = run["steps"][1:] or run["steps"]
    found = {
        name: harness.median([step[name][clock] if name in step else 0.0 for step in steps])
        for name in ("step", *sides.PARTS)
    }
    return found | {"rest": found["step"] - sum(found[name] for name in sides.PARTS)}


def summary(runs: Runs, *, samples: int, clock: int) -> dict[str, Any]:
    """Medians of all sides, and ratios, each of neighbours in time."""
    seconds = {name: [spent(run, clock=clock) for run in many] for name, many in runs.items()}
    medians = {
        name: {part: harness.median([one[part] for one in many]) for part in many[0]} for name, many in seconds.items()
    }
    fastest = min((name for name in ("trl", "trl_8_a_pass") if name in runs), key=lambda name: medians[name]["step"])
    memory = {name: harness.median([run["peak_mib"] for run in many]) for name, many in runs.items()}
    return {
        "trl_fastest": fastest,
        "ratio": _ratios(seconds["trueup"], seconds[fastest]),
        "ratio_against_defaults": _ratios(seconds["trueup"], seconds["trl_defaults"])
        if "trl_defaults" in seconds
        else None,
        "memory_ratio": {name: memory["trueup"] / memory[name] for name in memory if name != "trueup"},
        "samples_per_second": {name: samples / medians[name]["step"] for name in medians},
        "seconds": medians,
        "peak_mib": memory,
        "loaded_mib": {name: harness.median([run["loaded_mib"] for run in many]) for name, many in runs.items()},
        "response_tokens": {name: _mean_log(many, "completions/mean_length") for name, many in runs.items()},
    }


def _ratios(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    # What is recorded while drawing need not be computed: a ratio to nothing says nothing.
    names = [name for name in ours[0] if all(one[name] > 1e-3 for one in ours)]
    return {name: harness.median([b[name] / a[name] for a, b in zip(ours, theirs, strict=True)]) for name in names}


def _mean_log(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [line[name] for run in runs for line in run["logs"]]
    return sum(values) / len(values)


def missed(found: Mapping[str, Any]) -> list[str]:
    """Aims that the figures do not reach."""
    short = [name for name in ("step", "generate", "score") if found["ratio"][name] < AIMS[name]]
    return short + (["memory"] if found["memory_ratio"][found["trl_fastest"]] > AIMS["memory"] else [])


def checks_of(case: str, differences: Mapping[str, float], lengths: Mapping[str, float]) -> list[dict[str, Any]]:
    """Equal results for the same samples, and responses of like length."""
    equal = [
        {
            "name": f"{case}: equal {name} for the same samples",
            "passed": differences[name] < check.TOLERANCE,
            "difference": differences[name],
            "tolerance": check.TOLERANCE,
        }
        for name in ("reward", "advantage", "loss", "gradient")
    ]
    apart = max(lengths.values()) / min(lengths.values()) - 1
    return [*equal, {"name": f"{case}: responses of like length", "passed": apart < 0.1, "difference": apart}]


def run(case: str, *, settings: Sequence[str], steps: int, repeats: int, threads: int) -> dict[str, Any]:
    """Some settings of one case in turn."""
    shape = CASES[case]
    request = {"method": shape["method"], "prompts": shape["prompts"], "samples": SAMPLES, "steps": steps}
    request |= {"new_tokens": sides.NEW_TOKENS, "threads": threads}
    with tempfile.TemporaryDirectory() as name:
        facts = sides.prepare(Path(name), size=shape["size"], prompts=shape["prompts"] * steps, tokens=shape["tokens"])

        def side(**extra: Any) -> Callable[[], dict[str, Any]]:
            asked = request | {"folder": name} | extra
            return lambda: harness.in_process(Path(__file__).resolve(), asked, threads=threads)

        differences = side(side="check")()
        runs = harness.alternate({label: side(**SETTINGS[label]) for label in settings}, repeats=repeats)
    samples = shape["prompts"] * SAMPLES
    found = summary(runs, samples=samples, clock=1 if threads == 1 else 0)
    return {
        "case": case,
        **found,
        "missed": missed(found),
        "by_the_clock": summary(runs, samples=samples, clock=0)["ratio"],
        "same_samples": differences,
        "data": facts | {"samples": samples, "steps": steps, "repeats": repeats},
        "checks": checks_of(case, differences, found["response_tokens"]),
    }


def main() -> None:
    """Measure, print, and fail where results differ."""
    given = harness.arguments(__doc__ or "")
    cases = given.only or (["5m_rloo"] if given.quick else list(CASES))
    steps, repeats = (3, given.repeats or 1) if given.quick else (5, given.repeats or 3)
    settings = QUICK if given.quick else tuple(SETTINGS)
    parts = [run(case, settings=settings, steps=steps, repeats=repeats, threads=given.threads) for case in cases]
    harness.finish(
        {
            "benchmark": "policy_training",
            "threads": given.threads,
            "ratio": parts[0]["ratio"]["step"],
            "cases": {part["case"]: part for part in parts},
            "checks": [one for part in parts for one in part["checks"]],
        },
        given.json,
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(worker(json.loads(sys.argv[2]))))
    else:
        main()
