"""Runs of `trueup train policy` that are killed, or whose reward fails, go on to the same policy, bit for bit."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoints.doubles import local_server
from trueup.cli import STOPPED
from trueup.train.anchor_callback import AnchorCallback

from .conftest import Workshop
from .making import text_of, write_jsonl
from .processes import Running, assert_refused, run
from .test_kill import SPEED, kill_at_step, steps_logged, weights

REMAINDER = "policy_rewards:remainder"


def asked(path: Path, count: int, *, first: int = 0) -> Path:
    return write_jsonl(path, [{"prompt": text_of(i)} for i in range(first, first + count)])


def words(workshop: Workshop, output: Path, *more: object) -> list[object]:
    """Words of a run of six steps, two to each rollout; a checkpoint after every step."""
    folder = output.parent
    known = ["train", "policy", "--model", workshop.model, "--output", output, "--reward", REMAINDER]
    known += ["--data.train", asked(folder / "prompts.jsonl", 16), "--batch_size", 3, "--samples", 2]
    known += ["--minibatches", 2, "--max_steps", 6, "--max_new_tokens", 6, "--learning_rate", 1e-2]
    return [*known, "--logging_steps", 1, "--save_steps", 1, "--keep_checkpoints", 9, *more]


def lines(path: Path) -> list[dict]:
    """What was logged about the run, but for times and what describes one process alone."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    timed = {*SPEED, "train_loss"}
    return [{k: v for k, v in line.items() if k not in timed and not k.startswith("seconds/")} for line in found]


def assert_same_run(output: Path, undisturbed: Path) -> None:
    assert weights(output) == weights(undisturbed)
    assert lines(output / "metrics.jsonl") == lines(undisturbed / "metrics.jsonl")
    names = {path.name for path in undisturbed.iterdir()}
    assert {path.name for path in output.iterdir()} == names
    if "watch.jsonl" in names:
        assert (output / "watch.jsonl").read_text() == (undisturbed / "watch.jsonl").read_text()
        assert json.loads((output / "best.json").read_text()) == json.loads((undisturbed / "best.json").read_text())


# Killed


def watching(folder: Path) -> list[object]:
    place = asked(folder / "watch.jsonl", 4, first=40)
    return ["--watch.prompts", place, "--watch.gold", REMAINDER, "--watch.every", 2]


EMA, RESET = ["--anchor", "ema", "--anchor.decay", "0.6"], ["--anchor", "elastic_reset", "--anchor.period", "2"]
KILLED = {
    "minibatches": (3, []),
    "a moving average": (3, EMA),
    "resets": (4, [*RESET, "--anchor.decay", "0.6"]),
    "an adapter and its average": (3, ["--lora.rank", "4", "--lora.dropout", "0.3", *EMA]),
    "a value head": (3, ["--method", "ppo", "--regularizers", "value_loss"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_killed_and_resumed(workshop: Workshop, tmp_path: Path, name: str) -> None:
    step, settings = KILLED[name]
    settings = [*settings, *watching(tmp_path)]
    assert run(*words(workshop, tmp_path / "whole", *settings)).code == 0
    output = tmp_path / "run"
    again = words(workshop, output, *settings, "--resume")
    # the looks before that step have written lines of their own
    assert kill_at_step(Running(again, tmp_path / "log"), output, step + 2)
    assert not (output / "model").exists()
    checkpoints = list(output.glob("checkpoint-*"))
    assert checkpoints
    for folder in checkpoints:
        assert (folder / "anchor" / "state.json").is_file() == ("--anchor" in settings)
        assert (folder / "rollouts.safetensors").is_file() == bool(int(folder.name[-1]) % 2)
    assert run(*again).code == 0
    assert_same_run(output, tmp_path / "whole")


def test_a_checkpoint_is_never_without_its_anchor(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right after a checkpoint is in place, before any callback hears of it, loses nothing."""

    def killed(self: AnchorCallback, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt

    assert run(*words(workshop, tmp_path / "whole", *EMA)).code == 0
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(AnchorCallback, "on_save", killed)
        outcome = run(*words(workshop, output, *EMA))
    assert outcome.code == 130
    assert outcome.messages == [f"trueup: stopped{STOPPED['train', 'policy']}"]
    assert run(*words(workshop, output, *EMA, "--resume")).code == 0
    assert_same_run(output, tmp_path / "whole")


def test_stopped_by_ctrl_c(workshop: Workshop, tmp_path: Path) -> None:
    output = tmp_path / "run"
    running = Running(words(workshop, output), tmp_path / "log")
    assert running.wait_until(lambda: steps_logged(output) >= 2)
    running.signal(signal.SIGINT)
    outcome = running.finish()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert outcome.messages == ["trueup: stopped; the same command with --resume goes on from the last checkpoint"]


def test_rollouts_that_are_damaged(workshop: Workshop, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run(*words(workshop, output, "--max_steps", 3)).code == 0
    path = output / "checkpoint-3" / "rollouts.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    refused = run(*words(workshop, output, "--max_steps", 3, "--resume"))
    assert_refused(refused, path, "delete this checkpoint to resume from an earlier one")


# A reward that fails


@dataclass
class Server:
    """A reward server whose answers go wrong from some request on, until it is mended."""

    failure: Callable[[list[float]], Any]
    good: int
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, payload: dict[str, Any]) -> tuple[int, Any] | None:
        with self.lock:
            self.asked += 1
            broken = self.asked > self.good
        rewards = [float(len(text) % 7) for text in payload["responses"]]
        return self.failure(rewards) if broken else (200, {"rewards": rewards})


@contextlib.contextmanager
def serving(server: Server, folder: Path) -> Iterator[Path]:
    """The settings file of a running server."""
    with local_server(server.answer) as address:
        settings = {"kind": "http", "url": f"{address}/reward", "cache": False, "attempts": 2, "timeout_seconds": 0.5}
        path = folder / "server.yaml"
        path.write_text(yaml.safe_dump(settings))
        yield path


def down(rewards: list[float]) -> None:
    return None


def slow(rewards: list[float]) -> tuple[int, Any]:
    time.sleep(1.5)
    return 200, {"rewards": rewards}


def too_few(rewards: list[float]) -> tuple[int, Any]:
    return 200, {"rewards": rewards[1:]}


def not_a_number(rewards: list[float]) -> tuple[int, Any]:
    return 200, {"rewards": [*rewards[1:], float("nan")]}


FAILURES = {
    "down": (down, ["2 attempts"]),
    "slow": (slow, ["2 attempts"]),
    "too few": (too_few, ["11 rewards for the 12 responses"]),
    "not a number": (not_a_number, ["is nan"]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_server_that_fails(workshop: Workshop, tmp_path: Path, name: str) -> None:
    failure, fragments = FAILURES[name]
    settings = [*EMA, "--save_steps", 100]
    server = Server(failure, good=2)
    with serving(server, tmp_path) as place:
        command = words(workshop, tmp_path / "run", *settings, "--reward", place)
        assert_refused(run(*command), *fragments)
        assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]
        assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3, 4]
        server.good = sys.maxsize
        assert run(*command, "--resume").code == 0
        assert run(*words(workshop, tmp_path / "whole", *settings, "--reward", place)).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert lines(tmp_path / "run" / "metrics.jsonl") == lines(tmp_path / "whole" / "metrics.jsonl")


def test_a_gold_that_fails_in_the_middle(workshop: Workshop, tmp_path: Path) -> None:
    """The look that failed is taken when the run goes on."""
    server = Server(down, good=1)
    with serving(server, tmp_path) as place:
        settings = [*EMA, "--save_steps", 100, *watching(tmp_path), "--watch.gold", place, "--watch.every", 3]
        command = words(workshop, tmp_path / "run", *settings)
        assert_refused(run(*command), "2 attempts")
        assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-3"]
        server.good = sys.maxsize
        assert run(*command, "--resume").code == 0
        assert run(*words(workshop, tmp_path / "whole", *settings)).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert (tmp_path / "run" / "watch.jsonl").read_text() == (tmp_path / "whole" / "watch.jsonl").read_text()


def test_a_server_that_never_answered(workshop: Workshop, tmp_path: Path) -> None:
    with serving(Server(down, good=0), tmp_path) as place:
        assert_refused(run(*words(workshop, tmp_path / "run", "--reward", place)), "2 attempts")
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("function", "fragment"),
    [("one_too_few", "returned 11 rewards for 12 responses"), ("not_a_number", "returned nan for response 11")],
)
def test_a_function_that_fails(workshop: Workshop, tmp_path: Path, function: str, fragment: str) -> None:
    outcome = run(*words(workshop, tmp_path / "run", "--reward", f"policy_rewards:{function}"))
    assert_refused(outcome, function, fragment)


def test_another_recipe_does_not_go_on(workshop: Workshop, tmp_path: Path) -> None:
    output = tmp_path / "run"
    known = ["--max_steps", 1]
    assert run(*words(workshop, output, *known)).code == 0
    outcome = run(*words(workshop, output, *known, "--resume", "--kl_coefficient", 0.2))
    assert_refused(outcome, "kl_coefficient (0.05 before, 0.2 now)")
    command = words(workshop, output, *known, "--resume")
    asked(tmp_path / "prompts.jsonl", 17)
    assert_refused(run(*command), "the rows have changed since this run was begun")
