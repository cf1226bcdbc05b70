"""A workshop of tiny models and data for all faults."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before any library reads it: no fault may ever be looked up on a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from .making import make_model, make_records, make_scored, write_jsonl
from .processes import Outcome, run


@dataclass(frozen=True)
class Workshop:
    """Inputs that work; every test breaks a copy of one."""

    model: Path
    poisoned: Path
    data: Path
    scored: Path
    cache: Path

    def training(self, output: Path, *more: object) -> list[str]:
        """Words of a small training run with BSR, several micro-batches a step, and a checkpoint every few steps."""
        words = ["train", "reward", "--model", self.model, "--output", output, "--data.train", self.data]
        words += ["--data.cache", self.cache, "--batch_size", 8, "--token_budget", 200, "--epochs", 3]
        words += ["--save_steps", 4, "--logging_steps", 1, "--learning_rate", 1e-3, *more]
        return [str(word) for word in words]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    return Workshop(
        model=make_model(folder / "model"),
        poisoned=make_model(folder / "poisoned", poisoned=True),
        data=write_jsonl(folder / "train.jsonl", make_records(64)),
        scored=write_jsonl(folder / "scored.jsonl", make_scored(40)),
        cache=folder / "cache",
    )


@pytest.fixture(scope="session")
def finished(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; nobody may change it."""
    output = tmp_path_factory.mktemp("finished") / "run"
    outcome: Outcome = run(*workshop.training(output))
    assert outcome.code == 0, outcome.err
    return output


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "default-cache"))
