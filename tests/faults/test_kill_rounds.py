"""INPO that is killed while it draws, asks or trains, and resumed, ends in the same policies, bit for bit."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from small_inpo import write_prompts
from tiny_models import make_tokenizer, save_base

from .processes import Running, run
from .test_kill import weights

ROUNDS = 2


def playing(folder: Path, output: Path, *more: object) -> list[str]:
    """Words of a small INPO run of two rounds, with a checkpoint after every step."""
    words = ["train", "inpo", "--model", folder / "base", "--output", output, "--data.train", folder / "prompts.jsonl"]
    words += ["--oracle", "small_inpo:prefer", "--rounds", ROUNDS, "--samples", 4, "--max_new_tokens", 5]
    words += ["--max_length", 64, "--batch_size", 2, "--learning_rate", 1e-3, "--save_steps", 1, "--logging_steps", 1]
    return [str(word) for word in (*words, *more)]


def steps_of(folder: Path) -> int:
    try:
        return len((folder / "metrics.jsonl").read_bytes().splitlines())
    except OSError:
        return 0


@pytest.mark.parametrize(
    "moments",
    [
        (
            lambda output: (output / "round-1" / "samples" / "pool.json").is_file(),
            lambda output: steps_of(output / "round-1") >= 2,
        ),
        (
            lambda output: (output / "round-1" / "pairs.jsonl").is_file(),
            lambda output: (output / "round-1" / "model").is_dir(),
            lambda output: steps_of(output / "round-2") >= 1,
        ),
    ],
)
def test_killed_rounds_end_as_undisturbed_ones(moments: tuple[Callable[[Path], bool], ...], tmp_path: Path) -> None:
    save_base(tmp_path / "base", make_tokenizer(bos="<s>", pad="<pad>"))
    write_prompts(tmp_path / "prompts.jsonl", range(12))
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "run"
    assert run(*playing(tmp_path, undisturbed)).code == 0
    words = playing(tmp_path, output, "--resume")
    for happened in moments:
        running = Running(words, tmp_path / "log")
        assert running.wait_until(lambda happened=happened: happened(output)), running.log.read_text()
        running.signal(signal.SIGKILL)
        assert running.finish().code == -signal.SIGKILL
    assert not (output / f"round-{ROUNDS}" / "model").exists()
    assert Running(words, tmp_path / "log").finish().code == 0
    for number in range(1, ROUNDS + 1):
        ours, theirs = output / f"round-{number}", undisturbed / f"round-{number}"
        assert (ours / "pairs.jsonl").read_bytes() == (theirs / "pairs.jsonl").read_bytes()
        assert weights(ours) == weights(theirs)
    told = (output / "rounds.json").read_text().replace(str(output), str(undisturbed))
    assert json.loads(told) == json.loads((undisturbed / "rounds.json").read_text())
