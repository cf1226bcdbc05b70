"""A policy is fine-tuned to the same weights and logs by one process and by two, over gloo."""

import json

import policy_worker
import pytest
import torch
from test_two_processes import untimed
from transformers import AutoModelForCausalLM

from tiny_training import largest_difference

WORKER = policy_worker
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", WORKER.SCENARIOS)
def test_same_weights(alone, together, name):
    expected = torch.load(alone / f"{name}-0.pt")
    for rank in (0, 1):
        assert largest_difference(torch.load(together / f"{name}-{rank}.pt"), expected) < 1e-10


@pytest.mark.parametrize("name", WORKER.SCENARIOS)
def test_same_logs_and_evaluation(alone, together, name):
    expected = json.loads((alone / f"{name}-0.json").read_text())
    assert [line["step"] for line in expected["logs"] if "loss" in line] == [1, 2, 3]
    for rank in (0, 1):
        found = json.loads((together / f"{name}-{rank}.json").read_text())
        for line, wanted in zip([*found["logs"], found["eval"]], [*expected["logs"], expected["eval"]], strict=True):
            assert untimed(line) == pytest.approx(untimed(wanted), abs=1e-6), line


def test_the_checkpoint_is_an_ordinary_model_written_once(together):
    place = together / "run-sft" / "checkpoint-2"
    assert [path.name for path in (together / "run-sft").iterdir() if path.name.startswith((".", "tmp"))] == []
    _, info = AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
