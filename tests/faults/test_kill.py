"""A run that is killed at any moment and resumed ends in the same weights, bit for bit."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from .conftest import Workshop
from .processes import Outcome, Running, run

SPEED = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
THIS_PROCESS = SPEED | {"train_loss"}
"""What describes the steps that one process took, not the run."""


def weights(run_folder: Path) -> dict[str, bytes]:
    files = sorted((run_folder / "model").glob("*.safetensors"))
    assert files
    return {path.name: path.read_bytes() for path in files}


def metrics(run_folder: Path) -> list[dict]:
    """Everything logged about the run."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in THIS_PROCESS} for line in lines]


def steps_logged(run_folder: Path) -> int:
    try:
        return len((run_folder / "metrics.jsonl").read_bytes().splitlines())
    except OSError:
        return 0


def kill_at_step(running: Running, output: Path, step: int) -> bool:
    """Kill as soon as a step is logged; False if the run was faster."""
    reached = running.wait_until(lambda: steps_logged(output) >= step)
    running.signal(signal.SIGKILL)
    return reached and running.finish().code == -signal.SIGKILL


def kill_in_checkpoint(running: Running, output: Path, after: int, share: float) -> bool:
    """Kill while a checkpoint after some step is being written, when a share of its files is there."""
    partial = output / ".partial"

    def in_the_middle() -> bool:
        return steps_logged(output) > after and len(list(partial.rglob("*.*"))) > 12 * share

    reached = running.wait_until(in_the_middle)
    running.signal(signal.SIGKILL)
    return reached and running.finish().code == -signal.SIGKILL


def assert_no_half_checkpoint(output: Path) -> None:
    for folder in output.glob("checkpoint-*"):
        names = {path.name for path in folder.iterdir()}
        assert {"optimizer.pt", "scheduler.pt", "trainer_state.json", "trueup.json", "tokenizer.json"} <= names


def assert_same_run(output: Path, undisturbed: Path) -> None:
    assert weights(output) == weights(undisturbed)
    assert metrics(output) == metrics(undisturbed)
    names = sorted(path.name for path in undisturbed.iterdir())
    assert sorted(path.name for path in output.iterdir()) == names


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_again_and_again(workshop: Workshop, finished: Path, tmp_path: Path, seed: int) -> None:
    draw, output, kills = random.Random(seed), tmp_path / "run", 0
    words = workshop.training(output, "--resume")
    kills += kill_at_step(Running(words, tmp_path / "log"), output, draw.randint(1, 9))
    assert_no_half_checkpoint(output)
    kills += kill_in_checkpoint(Running(words, tmp_path / "log"), output, draw.randint(8, 11), draw.random())
    assert_no_half_checkpoint(output)
    kills += kill_at_step(Running(words, tmp_path / "log"), output, draw.randint(13, 24))
    assert_no_half_checkpoint(output)
    assert kills >= 2
    assert not (output / "model").exists()
    assert Running(words, tmp_path / "log").finish().code == 0
    assert_same_run(output, finished)


def test_killed_with_an_adapter(workshop: Workshop, tmp_path: Path) -> None:
    settings = ["--lora.rank", "4", "--learning_rate", "1e-2"]
    assert run(*workshop.training(tmp_path / "undisturbed", *settings)).code == 0
    output = tmp_path / "run"
    words = workshop.training(output, *settings, "--resume")
    assert kill_at_step(Running(words, tmp_path / "log"), output, 10)
    assert Running(words, tmp_path / "log").finish().code == 0
    assert_same_run(output, tmp_path / "undisturbed")


def test_resuming_a_finished_run_changes_nothing(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    assert run(*workshop.training(output, "--resume")).code == 0
    assert_same_run(output, finished)


def test_killed_before_the_model_is_in_place(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    (output / "model").rename(output / ".partial-model")
    (output / ".partial").mkdir()
    (output / ".old-model").mkdir()
    with open(output / "metrics.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"step": 24, "lo')
    assert run(*workshop.training(output, "--resume")).code == 0
    assert_same_run(output, finished)


def test_interrupted_by_ctrl_c(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    running = Running(workshop.training(output), tmp_path / "log")
    assert running.wait_until(lambda: steps_logged(output) >= 6)
    running.signal(signal.SIGINT)
    outcome: Outcome = running.finish()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert outcome.messages == ["trueup: stopped; the same command with --resume goes on from the last checkpoint"]
    assert not (output / ".partial").exists()
    assert run(*workshop.training(output, "--resume")).code == 0
    assert_same_run(output, finished)
