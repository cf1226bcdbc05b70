"""The policy benchmark: its sums by hand, and both sides on a policy small enough to be quick."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import harness
import policy_training as benchmark
import policy_training_check as check
import policy_training_sides as sides
import small_models

TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


def a_run(step: float, score: float, peak: float) -> dict:
    """Three steps, the first of them slow; processor seconds are half of the clock's."""
    steps = [{"step": [t, t / 2], "score": [score, score / 2]} for t in (9 * step, step, step)]
    return {
        "steps": steps,
        "logs": [{"completions/mean_length": 60.0}, {"completions/mean_length": 62.0}],
        "peak_mib": peak,
        "loaded_mib": peak / 2,
    }


def test_the_first_step_does_not_count():
    assert benchmark.spent(a_run(2.0, 0.5, 1.0), clock=0) == {
        "step": 2.0, "score": 0.5, "generate": 0.0, "own log-probs": 0.0, "reference": 0.0, "train": 0.0, "rest": 1.5,
    }  # fmt: skip
    assert benchmark.spent(a_run(2.0, 0.5, 1.0), clock=1)["step"] == 1.0


def test_ratios_are_of_neighbours_and_of_the_fastest():
    runs = {
        "trueup": [a_run(1.0, 0.1, 100.0), a_run(2.0, 0.1, 100.0), a_run(1.0, 0.1, 100.0)],
        "trl": [a_run(4.0, 0.1, 200.0), a_run(6.0, 0.2, 200.0), a_run(4.0, 0.4, 200.0)],
        "trl_8_a_pass": [a_run(8.0, 0.4, 50.0)] * 3,
    }
    found = benchmark.summary(runs, samples=32, clock=0)
    assert found["trl_fastest"] == "trl"
    assert found["ratio"] == {"step": 4.0, "score": 2.0, "rest": pytest.approx(3.6 / 0.9)}
    assert found["memory_ratio"] == {"trl": 0.5, "trl_8_a_pass": 2.0}
    assert found["samples_per_second"]["trueup"] == 32.0
    assert found["response_tokens"]["trl"] == 61.0


@pytest.mark.parametrize(
    ("ratio", "memory", "expected"),
    [
        ({"step": 3.0, "generate": 1.5, "score": 3.0}, 0.7, []),
        ({"step": 2.9, "generate": 1.4, "score": 2.9}, 0.71, ["step", "generate", "score", "memory"]),
    ],
)
def test_missed_aims(ratio, memory, expected):
    found = {"ratio": ratio, "memory_ratio": {"trl": memory, "other": 9.0}, "trl_fastest": "trl"}
    assert benchmark.missed(found) == expected


def test_a_difference_fails_its_check():
    equal = dict.fromkeys(("reward", "advantage", "loss", "gradient"), 0.0)
    found = benchmark.checks_of("case", equal | {"gradient": 0.01}, {"trueup": 60.0, "trl": 67.0})
    assert [one["passed"] for one in found] == [True, True, True, False, False]


def test_peak_memory_is_of_the_program_itself(tmp_path):
    """A child of a large process does not begin with its parent's peak."""
    held = torch.ones(40 * 2**20)
    script = tmp_path / "small.py"
    folder = Path(harness.__file__).parent
    script.write_text(f"import sys; sys.path.insert(0, {str(folder)!r}); import harness; print(harness.peak_memory())")
    small = float(harness.in_process(script, {}, threads=1))
    assert small < 100 < 160 < harness.peak_memory()
    assert held.sum() > 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(small_models.SIZES, "tiny", TINY)
    facts = sides.prepare(tmp_path, size="tiny", prompts=4, tokens=20)
    prompts = json.loads((tmp_path / "prompts.json").read_text())
    assert len(set(prompts)) == 4
    assert 12 <= facts["prompt_tokens"] <= facts["longest"] <= 32
    return tmp_path


@pytest.mark.parametrize("method", ["rloo", "grpo"])
@pytest.mark.filterwarnings("ignore")  # of another library's trainer
def test_both_sides_give_the_same_loss_and_gradient(folder, method):
    request = {"method": method, "prompts": 2, "samples": 4, "new_tokens": 8}
    found = check.compare(folder, request)
    assert {name: found[name] for name in ("reward", "advantage", "loss", "gradient")} == {
        name: pytest.approx(0.0, abs=check.TOLERANCE) for name in ("reward", "advantage", "loss", "gradient")
    }
    assert found["mean_absolute_log_ratio"] > 1e-3
