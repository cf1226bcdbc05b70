"""What a merge costs: memory, and the time of its imports."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trueup.models.weight_files import SINGLE


def plain(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A folder of any tensors with empty settings."""
    folder.mkdir()
    save_file(tensors, folder / SINGLE)
    (folder / "config.json").write_text("{}")


def test_no_model_is_imported_to_merge():
    """A merge takes seconds, and so would the import."""
    heavy = ("transformers.modeling_utils", "peft")
    told = f"import sys, trueup.recipes.merge; print(*(name in sys.modules for name in {heavy}))"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


MEASURED = """
import sys
from pathlib import Path
from trueup.merging.merge import merge_checkpoints
from trueup.merging.shares import same_shares, spherical

def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

small, large, output = sys.argv[1:]
for shares in (same_shares([1 / 3] * 3), spherical()):
    merge_checkpoints([small] * 3, Path(output + "-warm"), shares=shares)
    before = resident("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the highest mark begins anew
    merge_checkpoints([f"{large}-{i}" for i in range(3)], Path(output), shares=shares)
    print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is measured by Linux's proc")
def test_memory_is_at_most_the_largest_tensor_of_each_model_and_one_more(tmp_path: Path) -> None:
    numbers, tensors, count = 2 * 2**20, 5, 3
    plain(tmp_path / "small", {"w": torch.ones(2**18)})
    for i in range(count):
        plain(tmp_path / f"large-{i}", {f"layers.{k}.w": torch.full((numbers,), i + k / 9) for k in range(tensors)})
    words = [str(tmp_path / name) for name in ("small", "large", "out")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    largest, model = 4 * numbers, 4 * numbers * tensors
    for used in map(int, done.stdout.split()):
        assert used <= largest * (count + 1) < model
