"""Runs of `bsr_four_shifts.py`, in up to two worker processes; results are kept, so that a stopped run goes on."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from four_shifts_plan import Plan, Run, lanes


def read_results(cache: Path, settings: str) -> dict[str, dict[str, Any]]:
    """Stored results of these settings by key; a line that a stop has cut off is left out."""
    results = {}
    for path in sorted(cache.glob("results-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                result = json.loads(line)
            except ValueError:
                continue
            if result["settings"] == settings:
                results[result["key"]] = result
    return results


def append(path: Path, result: dict[str, Any]) -> None:
    """Add one result as one line."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(result) + "\n")
        handle.flush()


def claim(cache: Path, run: Run) -> bool:
    """Take a run, unless another worker has."""
    name = hashlib.sha256(run.key.encode()).hexdigest()[:24]
    try:
        os.close(os.open(cache / "claims" / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def work(plan: Plan, cache: Path, lane: int) -> None:
    """One worker: its own list first, then what the other has not taken."""
    import torch
    from four_shifts_run import execute, settings

    torch.set_num_threads(1)
    done = read_results(cache, settings())
    for run in lanes(plan)[lane]:
        if run.key in done or not claim(cache, run):
            continue
        result = execute(run, cache)
        append(cache / f"results-{lane}.jsonl", result)
        print(f"{result['seconds']:6.1f} s  {run.key}", file=sys.stderr, flush=True)


def run_all(script: Path, cache: Path, *, quick: bool, workers: int) -> None:
    """Start the workers and wait for them."""
    cache.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(cache / "claims", ignore_errors=True)
    (cache / "claims").mkdir()
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    flags = ["--quick"] if quick else []
    commands = [
        [sys.executable, str(script), "--worker", str(lane), "--cache", str(cache), *flags] for lane in range(workers)
    ]
    started = [subprocess.Popen(command, env=environment) for command in commands]
    failed = [process.wait() for process in started]
    if any(failed):
        raise SystemExit(f"a worker failed; results so far are in {cache}, and the same command goes on from there")
