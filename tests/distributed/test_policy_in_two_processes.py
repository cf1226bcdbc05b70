"""A policy is fine-tuned to the same weights and logs by one process and by two, over gloo."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_training import largest_difference
from two_processes import run_in_two

sys.path.insert(0, str(Path(__file__).resolve().parent))
import policy_worker
from test_two_processes import untimed

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    policy_worker.run(folder)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return run_in_two(HERE / "policy_worker.py", tmp_path_factory.mktemp("together"))


def test_same_weights(alone, together):
    expected = torch.load(alone / "weights-0.pt")
    for rank in (0, 1):
        assert largest_difference(torch.load(together / f"weights-{rank}.pt"), expected) < 1e-10


def test_same_logs_and_evaluation(alone, together):
    expected = json.loads((alone / "found-0.json").read_text())
    assert [line["step"] for line in expected["logs"] if "loss" in line] == [1, 2, 3]
    for rank in (0, 1):
        found = json.loads((together / f"found-{rank}.json").read_text())
        for line, wanted in zip([*found["logs"], found["eval"]], [*expected["logs"], expected["eval"]], strict=True):
            assert untimed(line) == pytest.approx(untimed(wanted), abs=1e-6), line


def test_the_checkpoint_is_an_ordinary_model_written_once(together):
    place = together / "run" / "checkpoint-2"
    assert [path.name for path in (together / "run").iterdir() if path.name.startswith((".", "tmp"))] == []
    _, info = AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
