"""A loss or a gradient that is not finite stops the run before any weight is changed by it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import Workshop
from .making import RARE, WORDS, make_records, write_jsonl
from .processes import Outcome, assert_refused, run

ROW = 38


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Preferences of which row 38 alone holds the rare word."""
    records = make_records(64)
    records[ROW - 1]["chosen"] += f" {RARE}"
    return write_jsonl(tmp_path / "rare.jsonl", records)


def assert_stopped(outcome: Outcome, output: Path, *fragments: object) -> list[dict]:
    """One message, offending rows saved, no model, and no checkpoint with a weight that is not finite."""
    message = assert_refused(outcome, "offending rows are in", output / "non_finite_rows.jsonl", *fragments)
    step = int(message.partition(" at step ")[2].partition(";")[0])
    assert not (output / "model").exists()
    checkpoints = list(output.glob("checkpoint-*"))
    assert all(int(folder.name.rpartition("-")[2]) < step for folder in checkpoints)
    for folder in checkpoints:
        weights = load_file(folder / "model.safetensors")
        weights["model.embed_tokens.weight"][4 + len(WORDS)] = 0  # the rare word's may be infinite from the start
        assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    return [json.loads(line) for line in (output / "non_finite_rows.jsonl").read_text().splitlines()]


def test_one_row_gives_a_loss_that_is_not_a_number(workshop: Workshop, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = ["--model", workshop.poisoned, "--data.train", data, "--save_steps", 1]
    outcome = run(*workshop.training(output, *words))
    (row,) = assert_stopped(outcome, output, "the loss is nan")
    record = json.loads(data.read_text().splitlines()[ROW - 1])
    assert row["row"] == f"{data}:{ROW}"
    assert row["prompt"] == record["prompt"]
    assert row["responses"] == [record["chosen"], record["rejected"]]


def test_a_gradient_that_is_not_finite(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    # rewards are as before, but the norm's gradient is proportional to the head: its square overflows float32
    model, output = tmp_path / "model", tmp_path / "run"
    shutil.copytree(finished / "model", model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] *= 1e-25
    weights["score.weight"] *= 1e25
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for clip in (1, 0):
        settings = ["--model", model, "--save_steps", 1, "--max_grad_norm", clip]
        outcome = run(*workshop.training(output, *settings))
        rows = assert_stopped(outcome, output, "the loss is finite but its gradient is inf at step 1;")
        assert len(rows) == 8
        assert not list(output.glob("checkpoint-*"))


@pytest.mark.parametrize("regularizer", ["bsr", "none"])
def test_an_absurd_learning_rate(workshop: Workshop, tmp_path: Path, regularizer: str) -> None:
    output = tmp_path / "run"
    words = ["--learning_rate", 1e30, "--warmup", 0, "--save_steps", 1, "--regularizer", regularizer]
    outcome = run(*workshop.training(output, *words))
    rows = assert_stopped(outcome, output, "lower the learning rate")
    known = {line["prompt"] for line in map(json.loads, workshop.data.read_text().splitlines())}
    assert rows
    assert {row["prompt"] for row in rows} <= known


def test_scores_that_are_not_numbers(workshop: Workshop, finished: Path, data: Path, tmp_path: Path) -> None:
    model, output = tmp_path / "model", tmp_path / "scores.jsonl"
    shutil.copytree(finished / "model", model)
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"][4 + len(WORDS)] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert_refused(run("score", "--model", model, "--data", data, "--output", output), "nan", f"row {ROW}")
    assert not output.exists()
    assert_refused(run("audit", "reward", model, "--data", data, "--output", tmp_path / "audit"), "nan")
    assert not (tmp_path / "audit").exists()
