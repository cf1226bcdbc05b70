"""A policy learns the same from its own samples in one process and in two, over gloo."""

import json

import online_worker
import pytest
import torch
from test_two_processes import untimed

from tiny_training import largest_difference

WORKER = online_worker
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", online_worker.SCENARIOS)
def test_same_weights(alone, together, name):
    expected = torch.load(alone / f"{name}-0.pt")
    for rank in (0, 1):
        assert largest_difference(torch.load(together / f"{name}-{rank}.pt"), expected) < 1e-6
    start_of_all = online_worker.build(alone / "start", online_worker.LENGTH, **online_worker.SCENARIOS[name]).model
    assert largest_difference(start_of_all.state_dict(), expected) > 1e-3


@pytest.mark.parametrize("name", online_worker.SCENARIOS)
def test_same_logs(alone, together, name):
    expected = json.loads((alone / f"{name}-0.json").read_text())
    for rank in (0, 1):
        found = json.loads((together / f"{name}-{rank}.json").read_text())
        for line, wanted in zip(found, expected, strict=True):
            assert without_seconds(line) == pytest.approx(without_seconds(wanted), abs=1e-5), line


def without_seconds(line):
    return {name: value for name, value in untimed(line).items() if not name.startswith("seconds/")}


def test_a_reward_that_fails_on_one_device_ends_the_run_on_both_with_everything_saved(together):
    said = [json.loads((together / f"failed-{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0][0] == "TrueupError"
    assert said[0][1].startswith("another process stopped: ")
    assert said[1][0] == "EndpointError"
    assert said[1][1] in said[0][1]
    state = json.loads((together / "failed" / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["global_step"] == 1


def test_gold_that_fails_where_it_is_asked_ends_the_run_on_the_other_device_too(together):
    said = [json.loads((together / f"blind-{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0][0] == "EndpointError"
    assert said[1] == ["TrueupError", f"another process stopped: {said[0][1]}"]
