"""A policy learns from pairs to the same weights and logs in one process and in two, which share the reference."""

import json
from pathlib import Path

import preference_worker
import pytest
import torch
from test_two_processes import untimed

from tiny_training import largest_difference

WORKER = preference_worker
pytestmark = pytest.mark.slow


def found(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"found-{rank}.json").read_text())


def test_same_weights(alone, together):
    expected = torch.load(alone / "weights-0.pt")
    for rank in (0, 1):
        assert largest_difference(torch.load(together / f"weights-{rank}.pt"), expected) < 1e-8


def test_same_logs_and_evaluation(alone, together):
    expected = found(alone, 0)
    assert [line["step"] for line in expected["logs"] if "loss" in line] == [1, 2, 3]
    for rank in (0, 1):
        told = found(together, rank)
        for line, wanted in zip([*told["logs"], told["eval"]], [*expected["logs"], expected["eval"]], strict=True):
            assert untimed(line) == pytest.approx(untimed(wanted), abs=1e-6), line


def test_the_reference_is_asked_about_each_row_once_by_either(together, alone):
    """And kept once: under the same names as one process keeps it."""
    asked = [found(together, rank)["asked"] for rank in (0, 1)]
    assert sorted(asked[0] + asked[1]) == sorted(found(alone, 0)["asked"]) == sorted([*range(21), *range(9)])
    assert abs(len(asked[0]) - len(asked[1])) <= 2
    names = [{path.name for path in (folder / "cache").iterdir()} for folder in (alone, together)]
    assert names[0] == names[1]
    assert len(names[0]) == 2
