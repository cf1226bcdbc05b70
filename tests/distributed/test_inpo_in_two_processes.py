"""Rounds of INPO are the same in one process and in two, of which the first draws and asks."""

import json

import inpo_worker
import pytest
import torch
from safetensors.torch import load_file

from tiny_training import largest_difference

WORKER = inpo_worker
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "model"), [("whole", "model"), ("adapter", "merged")])
def test_the_same_pairs_and_weights(name, model, alone, together):
    start = load_file(alone / "base-0" / "model.safetensors")
    for number in (1, 2):
        ours, theirs = (folder / name / f"round-{number}" for folder in (together, alone))
        assert (ours / "pairs.jsonl").read_text() == (theirs / "pairs.jsonl").read_text()
        one, two = (load_file(folder / model / "model.safetensors") for folder in (ours, theirs))
        assert largest_difference(one, two) < 1e-5
        assert max(float((two[key] - start[key]).abs().max()) for key in start) > 1e-4
    assert torch.isfinite(one["model.norm.weight"]).all()


@pytest.mark.parametrize("name", inpo_worker.SCENARIOS)
def test_only_the_first_asks_and_all_are_told(name, alone, together):
    whole = json.loads((alone / f"{name}-0.json").read_text())
    first, second = (json.loads((together / f"{name}-{rank}.json").read_text()) for rank in (0, 1))
    assert first == whole
    assert second == whole | {"asked": 0}
