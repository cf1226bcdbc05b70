"""Runs of the command line: in this process, or in one that can be killed."""

import contextlib
import io
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueup.cli import main


@dataclass(frozen=True)
class Outcome:
    """What one run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("trueup: ")]


def run(*words: object) -> Outcome:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def assert_refused(outcome: Outcome, *fragments: object) -> str:
    """Exit code 2 and one clear message on one line, which holds the fragments."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    assert len(outcome.messages) == 1, outcome.err
    message = outcome.messages[0]
    assert outcome.err.rstrip().splitlines()[-1] == message
    assert len(message) < 1500
    for fragment in fragments:
        assert str(fragment) in message, message
    return message


def _child(words: Sequence[str], log: str, file_limit: int | None) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    raise SystemExit(main(words))


class Running:
    """The command line in a process of its own, forked from a server that has imported everything once."""

    def __init__(self, words: Sequence[object], log: Path, *, file_limit: int | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["faults.processes", "trueup.recipes.train_reward"])
        self.log = log
        self.process = context.Process(target=_child, args=([str(word) for word in words], str(log), file_limit))
        self.process.start()

    def wait_until(self, happened: Callable[[], bool], *, seconds: float = 60) -> bool:
        """Poll until something has happened; False if the process ended first."""
        deadline = time.monotonic() + seconds
        while not happened():
            if not self.process.is_alive():
                return happened()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.0005)
        return True

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def finish(self, *, seconds: float = 60) -> Outcome:
        """Wait for the end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it hangs: " + self.log.read_text()
        text = self.log.read_text()
        self.log.unlink()
        return Outcome(self.process.exitcode, text, text)
