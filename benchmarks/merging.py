"""Merging two checkpoints: trueup against mergekit, the same linear and the same spherical merge.

    python benchmarks/merging.py --mergekit PYTHON [--quick] [--json FILE] [--repeats 5]

PYTHON is the interpreter of an environment with mergekit, whose pins are not ours. The checkpoints are random Llamas
of about 300 MB each in float32, generated here; the spherical merge is of task vectors around a third one, with an
angle for each tensor (mergekit's `nuslerp` with a base, ours with `groups="tensor"`). Measured are `command`, a whole
process from its start to the checkpoint on disk; `merge`, the same without importing libraries; and the highest
resident memory, mapped files included: all of it, and by how much it exceeds the peak of the imports. Our files are
synced to the disk before the clock stops, theirs are not.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

FULL = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 7, "vocab_size": 16_000}
QUICK = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "vocab_size": 1_000}
NAMES = ("base", "first", "second")
WEIGHTS = (0.3, 0.7)
TOLERANCE = {"trueup": 1e-6, "mergekit": 3e-4}
"""Largest difference to the formula in float64, relative to each tensor's largest number.

mergekit sums the inner products of a spherical merge in float32, which costs it digits where tensors are large.
"""

RATIOS = ("command", "merge", "peak_mib")

OURS = """
import sys, time
from pathlib import Path
import trueup.recipes.merge as recipes
begin, imported = time.perf_counter(), peak()
kind, folder, output = sys.argv[1], *map(Path, sys.argv[2:])
both = [str(folder / "first"), str(folder / "second")]
if kind == "linear":
    recipes.merge_soup(recipes.MergeSoup(models=both, output=output, weights=[0.3, 0.7]))
else:
    recipes.merge_slerp(recipes.MergeSlerp(models=both, base=str(folder / "base"), output=output, share=0.7,
                                           groups="tensor"))
seconds = time.perf_counter() - begin
"""
THEIRS = """
import sys, time
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
begin, imported = time.perf_counter(), peak()
kind, folder, output = sys.argv[1:]
models = [{"model": f"{folder}/{name}", "parameters": {"weight": weight}} for name, weight in
          (("first", 0.3), ("second", 0.7))]
settings = {"models": models, "dtype": "float32", "merge_method": "linear"}
if kind == "spherical":
    settings |= {"merge_method": "nuslerp", "base_model": f"{folder}/base"}
options = MergeOptions(quiet=True, lazy_unpickle=True, copy_tokenizer=False, write_model_card=False)
run_merge(MergeConfiguration.model_validate(settings), output, options)
seconds = time.perf_counter() - begin
"""
MEMORY = """
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
"""
REPORT = """
import json
print(json.dumps({"merge": seconds, "peak_mib": peak(), "peak_over_imports_mib": peak() - imported}))
"""


def make_models(folder: Path, shape: dict[str, int]) -> float:
    """Save a base and two models that moved away from it at random; returns the MB of one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, pad_token_id=0))
    for name in NAMES:
        model.save_pretrained(folder / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    return (folder / "base" / "model.safetensors").stat().st_size / 1e6


def measure(side: str, kind: str, *, folder: Path, python: str, threads: int) -> dict[str, Any]:
    """One merge in a process of its own."""
    output = folder / f"{side}-{kind}"
    shutil.rmtree(output, ignore_errors=True)
    script = MEMORY + (OURS if side == "trueup" else THEIRS) + REPORT
    interpreter = sys.executable if side == "trueup" else python
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    begin = time.perf_counter()
    done = subprocess.run(
        [interpreter, "-c", script, kind, str(folder), str(output)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{side}, {kind}: failed\n{done.stderr[-3000:]}")
    return {"command": seconds} | json.loads(done.stdout.strip().splitlines()[-1])


def weights(folder: Path) -> dict[str, Any]:
    """All tensors of a checkpoint."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def formula(kind: str, parts: list[Any]) -> Any:
    """The merge of one tensor of base, first and second, in float64."""
    import torch

    base, first, second = (part.double() for part in parts)
    if kind == "linear":
        return WEIGHTS[0] * first + WEIGHTS[1] * second
    tasks = [(part - base).flatten() for part in (first, second)]
    angle = torch.acos(tasks[0] @ tasks[1] / tasks[0].norm() / tasks[1].norm())
    merged = sum(torch.sin(weight * angle) * task for weight, task in zip(WEIGHTS, tasks, strict=True))
    return base + (merged / torch.sin(angle)).view_as(base)


def largest_difference(kind: str, result: Path, models: list[Path]) -> float:
    """Of a merged checkpoint to the formula, relative to each tensor's largest number."""
    merged, parts = weights(result), [weights(model) for model in models]
    if merged.keys() != parts[0].keys():
        raise SystemExit(f"{result.name}: one side alone holds {sorted(merged.keys() ^ parts[0].keys())[:5]}")

    def difference(name: str) -> float:
        exact = formula(kind, [part[name] for part in parts])
        return float((merged[name].double() - exact).abs().max() / exact.abs().max())

    return max(map(difference, merged))


def one_kind(kind: str, *, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn on one kind of merge."""

    def work(side: str) -> Callable[[], dict[str, Any]]:
        return lambda: measure(side, kind, folder=folder, python=given.mergekit, threads=given.threads)

    measured = harness.alternate({side: work(side) for side in ("trueup", "mergekit")}, repeats=given.repeats)
    medians = {
        side: {name: harness.median([run[name] for run in runs]) for name in runs[0]} for side, runs in measured.items()
    }
    pairs = list(zip(measured["mergekit"], measured["trueup"], strict=True))
    ratios = {name: harness.median([theirs[name] / ours[name] for theirs, ours in pairs]) for name in RATIOS}
    models = [folder / name for name in NAMES]
    differences = {side: largest_difference(kind, folder / f"{side}-{kind}", models) for side in measured}
    return {"medians": medians, "mergekit_over_trueup": ratios, "difference_to_formula": differences}


def main() -> None:
    """Measure, print, and fail where the merges differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", required=True, help="python of an environment with mergekit")
    parser.add_argument("--quick", action="store_true", help="small models; figures are rough")
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make_models(folder, QUICK if given.quick else FULL)
        kinds = {kind: one_kind(kind, folder=folder, given=given) for kind in ("linear", "spherical")}
    command = [given.mergekit, "-c", "from importlib.metadata import version; print(version('mergekit'))"]
    peer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    checks = [
        {"name": f"{kind} merge of {side} is the formula", "passed": difference <= TOLERANCE[side]}
        for kind, found in kinds.items()
        for side, difference in found["difference_to_formula"].items()
    ]
    result = {"benchmark": "merging", "megabytes": size, "mergekit": peer, "threads": given.threads, "kinds": kinds}
    harness.finish(result | {"checks": checks}, given.json)


if __name__ == "__main__":
    main()
