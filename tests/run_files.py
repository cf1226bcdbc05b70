"""What tests write for a training run, and read of what it leaves."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file


def write(path: Path, records: Iterable[Mapping]) -> Path:
    """Records as JSONL."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    """Records of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tensors(run: Path, folder: str = "model") -> dict[str, torch.Tensor]:
    """Weights of a run's model, or of another one in its folder."""
    return load_file(run / folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether weights are equal bit by bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def log(run: Path) -> list[dict]:
    """Everything that a run logged."""
    return read(run / "metrics.jsonl")


def logged(run: Path, name: str) -> list[float]:
    """All values of one metric."""
    return [line[name] for line in log(run) if name in line]
