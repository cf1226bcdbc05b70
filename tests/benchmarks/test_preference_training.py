"""The benchmark of training on preferences: its sums by hand, and both sides on a policy small enough to be quick."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import preference_training as benchmark
import preference_training_sides as sides
import small_models

TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
LOG2 = math.log(2)


def a_run(step: float, *, asked: float = 0.0, peak: float = 100.0, losses=(LOG2, 0.6)) -> dict:
    """Three steps, the first of them slow; processor seconds are half of the clock's."""
    clock = [9 * step, step, step]
    return {
        "steps": {"clock": clock, "processor": [t / 2 for t in clock]},
        "reference": {"clock": asked, "processor": asked / 2},
        "losses": list(losses),
        "peak_mib": peak,
    }


def test_asking_the_reference_is_shared_out_over_the_steps_and_the_first_step_is_left_out():
    runs = {
        "trueup": [a_run(1.0, asked=3.0), a_run(2.0, asked=6.0)],
        "trl": [a_run(10.0, peak=400.0), a_run(12.0, peak=400.0)],
        "trl_1_a_pass": [a_run(4.0, peak=150.0), a_run(8.0, peak=150.0)],
        "trl_cached": [a_run(5.0, asked=9.0, peak=300.0), a_run(6.0, asked=9.0, peak=300.0)],
    }
    found = benchmark.summary("tiny", {}, runs, kind="processor")
    assert found["step_seconds"] == {"trueup": 0.75, "trl": 5.5, "trl_1_a_pass": 3.0, "trl_cached": 2.75}
    # A step of ours is 1/2 + 1.5/3 = 1, then 2; TRL's are 5 and 6, or 2 and 4.
    assert found["ratio"] == {"trl": 4.0, "trl_1_a_pass": 2.0, "trl_cached": 4.0}
    assert found["pairs_per_second"]["trueup"] == pytest.approx(benchmark.STEP / 1.5)
    assert found["memory_ratio"] == {
        "trl": 0.25,
        "trl_1_a_pass": pytest.approx(2 / 3),
        "trl_cached": pytest.approx(1 / 3),
    }
    assert found["missed"] == ["trl_1_a_pass", "memory"]
    assert all(check["passed"] for check in found["checks"])


@pytest.mark.parametrize(
    ("theirs", "failed"),
    [((LOG2, 0.601), "tiny: equal loss at every step, trl"), ((LOG2, 0.6), "")],
)
def test_unequal_losses_fail(theirs, failed):
    runs = {"trueup": [a_run(1.0)], "trl": [a_run(2.0, losses=theirs)], "trl_cached": [a_run(2.0)]}
    checks = benchmark.summary("tiny", {}, runs, kind="clock")["checks"]
    assert [check["name"] for check in checks if not check["passed"]] == ([failed] if failed else [])


def test_losses_that_stay_at_log_2_fail_and_missed_aims_are_named():
    runs = {name: [a_run(1.0, losses=(LOG2, LOG2))] for name in ("trueup", "trl", "trl_cached")}
    found = benchmark.summary("tiny", {}, runs, kind="clock")
    assert [check["name"] for check in found["checks"] if not check["passed"]] == [
        "tiny: the policy has left its reference"
    ]
    assert found["missed"] == ["trl", "trl_cached", "memory"]


@pytest.mark.usefixtures("shared_data")
def test_both_sides_have_the_same_losses(monkeypatch, tmp_path):
    pytest.importorskip("trl")
    monkeypatch.setitem(small_models.SIZES, "tiny", TINY)
    facts = sides.prepare(tmp_path, size="tiny", pairs=6)
    assert facts["pairs"] == 6
    assert facts["mean_prompt_tokens"] > facts["mean_response_tokens"] > 10
    request = {"folder": str(tmp_path), "step": 2}
    torch.manual_seed(0)
    ours = sides.train_trueup(tmp_path, request | {"side": "trueup", "token_budget": 600})
    theirs = sides.train_trl(tmp_path, request | {"side": "trl", "cached": True})
    assert len(ours["losses"]) == len(theirs["losses"]) == 3
    assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-5)
    assert abs(ours["losses"][-1] - LOG2) > 1e-3
    assert min(ours["steps"]["processor"] + [ours["reference"]["clock"], theirs["reference"]["clock"]]) > 0
