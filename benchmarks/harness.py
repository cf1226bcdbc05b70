"""What all benchmarks share: two sides in turn, medians, one JSON form, and a floor to compare with.

Each measurement is a process of its own, so that peak memory is a side's own and no side warms the other's caches.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def arguments(description: str) -> argparse.Namespace:
    """Flags of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer steps and repeats; figures are rough")
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, help="measurements of each side")
    parser.add_argument("--only", nargs="*", help="names of the cases to run")
    return parser.parse_args()


def data_folder() -> Path:
    """Real data beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"the benchmark reads real data from {folder}, which is absent")
    return folder


def in_process(script: Path, request: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """Run one measurement in a fresh process and return what it printed as its last line."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
    }
    command = [sys.executable, str(script), "--worker", json.dumps(request)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{request}: failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def alternate(sides: Mapping[str, Callable[[], dict[str, Any]]], *, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Measure the sides in turn, so that a machine that slows down slows all of them."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(repeats):
        for name, measure in sides.items():
            print(f"  {number + 1}/{repeats} {name} ...", file=sys.stderr, flush=True)
            results[name].append(measure())
    return results


def median(values: Sequence[float]) -> float:
    """The figure to quote."""
    return float(statistics.median(values))


def peak_memory() -> float:
    """Largest resident size of this program so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage says is inherited: a child of a large process would begin with its parent's peak.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def matmul_rate(rows: int, inner: int, outer: int) -> float:
    """Measured rate of a float32 matrix product of this shape, in FLOP/s (median of 15)."""
    import torch

    left, right = torch.randn(rows, inner), torch.randn(inner, outer)
    times = []
    for _ in range(18):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return 2 * rows * inner * outer / median(times[3:])


def versions() -> dict[str, str]:
    """What was measured with."""
    from importlib.metadata import version

    names = ("torch", "transformers", "accelerate", "trl", "trueup")
    return {"python": platform.python_version(), "machine": platform.processor() or platform.machine()} | {
        name: version(name) for name in names
    }


def finish(result: dict[str, Any], path: Path | None) -> None:
    """Print and write the result; a failed equality check is exit code 1."""
    result["versions"] = versions()
    text = json.dumps(result, indent=2)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    failed = [check["name"] for check in result["checks"] if not check["passed"]]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)
