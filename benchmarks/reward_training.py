"""Reward-model training against TRL's RewardTrainer: the same model, the same batches, the same losses.

    python benchmarks/reward_training.py [--quick] [--json FILE] [--only 5m 25m multi scoring scoring_long]

Cases: `5m` and `25m` train on HH pairs (16 a step, at most 1024 tokens); `multi` trains on all 6 pairs of 4 responses
(4 prompts a step). `scoring` and `scoring_long` score 12 responses a prompt, forward only, against a length-sorted
padded loop: the first has short prompts (one chat turn), the second long ones (product reviews).
"""

import json
import sys
import tempfile
from pathlib import Path

import harness
import reward_training_sides as sides
import small_models
from reward_training_sides import HH_STEP, MULTI_STEP, SOURCES

TOLERANCE = 2e-4


def worker(request: dict) -> dict:
    """One measurement, in a process of its own."""
    import torch

    torch.set_num_threads(request["threads"])
    folder = Path(request["folder"])
    rows = json.loads((folder / "rows.json").read_text())
    measure = {
        ("train", "trueup"): sides.train_trueup,
        ("train", "trl"): sides.train_trl,
        ("score", "trueup"): sides.score_trueup,
        ("score", "padded"): sides.score_padded,
    }[request["task"], request["side"]]
    result = measure(folder, rows, request)
    return result | {"peak_mib": harness.peak_memory()}


def floor_seconds(facts: dict, steps: int) -> float:
    """Unique tokens x FLOPs a token (forward and backward of all linear layers), at the measured matmul rate."""
    shape = small_models.SIZES[facts["model"]]
    d, ff = shape["hidden_size"], shape["intermediate_size"]
    per_token = 6 * shape["num_hidden_layers"] * (4 * d * d + 3 * d * ff)
    rate = harness.matmul_rate(4096, d, ff)
    return facts["unique_tokens"] / steps * per_token / rate


def run_training(case: str, options) -> dict:
    step = MULTI_STEP if case == "multi" else HH_STEP
    steps = 3 if options.quick or case == "25m" else 8
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = sides.prepare_case(case, folder, steps=steps)
        request = {"task": "train", "folder": name, "step": step, "threads": options.threads}

        def side(**extra):
            return lambda: harness.in_process(Path(__file__), request | extra, threads=options.threads)

        measures = {
            "trueup": side(side="trueup"),
            "trl_fastest": side(side="trl"),
            "trl_defaults": side(side="trl", checkpointing=True),
        }
        results = harness.alternate(measures, repeats=repeats)
        floor = floor_seconds(facts, steps)
    return summarize_training(case, facts, results, floor, rows_per_step=step)


def summarize_training(case: str, facts: dict, results: dict, floor: float, *, rows_per_step: int) -> dict:
    # The first step pays for the first call of every kernel.
    seconds = {name: [harness.median(r["seconds"][1:]) for r in runs] for name, runs in results.items()}
    memory = {name: harness.median([r["peak_mib"] for r in runs]) for name, runs in results.items()}
    ours = seconds["trueup"]
    paired = {
        name: harness.median([other / own for own, other in zip(ours, seconds[name], strict=True)])
        for name in ("trl_fastest", "trl_defaults")
    }
    losses = {name: runs[0]["losses"] for name, runs in results.items()}
    worst = max(abs(a - b) for a, b in zip(losses["trueup"], losses["trl_fastest"], strict=True))
    return {
        "case": case,
        "ratio": paired["trl_fastest"],
        "ratio_against_defaults": paired["trl_defaults"],
        "memory_ratio": memory["trueup"] / memory["trl_fastest"],
        "median_step_seconds": {name: harness.median(values) for name, values in seconds.items()},
        "rows_per_second": {name: rows_per_step / harness.median(values) for name, values in seconds.items()},
        "peak_mib": memory,
        "floor_step_seconds": floor,
        "share_of_matmul_rate": floor / harness.median(ours),
        "repeats": seconds,
        "data": facts,
        "losses": losses,
        "checks": [
            {
                "name": f"{case}: equal loss at every step",
                "passed": worst < TOLERANCE,
                "largest_difference": worst,
                "tolerance": TOLERANCE,
            }
        ],
    }


def run_scoring(case: str, options) -> dict:
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = 60 if case == "scoring" else 24
        facts = sides.prepare_case(case, folder, steps=(prompts // 2 if options.quick else prompts) // MULTI_STEP)
        request = {"task": "score", "folder": name, "threads": options.threads}

        def side(label):
            return lambda: harness.in_process(Path(__file__), request | {"side": label}, threads=options.threads)

        results = harness.alternate({"trueup": side("trueup"), "padded": side("padded")}, repeats=repeats)
    seconds = {name: [r["seconds"][0] for r in runs] for name, runs in results.items()}
    ours, theirs = results["trueup"][0]["rewards"], results["padded"][0]["rewards"]
    worst = max(abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
    return {
        "case": case,
        "ratio": harness.median([b / a for a, b in zip(seconds["trueup"], seconds["padded"], strict=True)]),
        "median_seconds": {name: harness.median(values) for name, values in seconds.items()},
        "peak_mib": {name: harness.median([r["peak_mib"] for r in runs]) for name, runs in results.items()},
        "repeats": seconds,
        "data": facts,
        "checks": [
            {
                "name": f"{case}: equal rewards",
                "passed": worst < 1e-4,
                "largest_difference": worst,
                "tolerance": 1e-4,
            }
        ],
    }


def main() -> None:
    options = harness.arguments(__doc__)
    cases = options.only or list(SOURCES)
    parts = [
        run_scoring(case, options) if case.startswith("scoring") else run_training(case, options) for case in cases
    ]
    harness.finish(
        {
            "benchmark": "reward_training",
            "threads": options.threads,
            "ratio": parts[0]["ratio"],
            "cases": {part["case"]: part for part in parts},
            "checks": [check for part in parts for check in part["checks"]],
        },
        options.json,
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(worker(json.loads(sys.argv[2]))))
    else:
        main()
