"""Places that cannot be written, and disks that are full: one message, earlier results as they were, and a cure."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trueup.cli import main
from trueup.files import write_text, written_together

from .conftest import Workshop
from .processes import Running, assert_refused, run
from .test_damaged_checkpoints import listing
from .test_kill import assert_same_run, steps_logged


@pytest.fixture(params=["below a file", "a device", "a name too long", "a zero byte"])
def bad_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("old")
    places = {"below a file": tmp_path / "file" / "out", "a device": Path("/dev/null/out")}
    return places.get(request.param, tmp_path / ("x" * 300 if "long" in request.param else "nul\0"))


def test_unwritable_places(workshop: Workshop, finished: Path, tmp_path: Path, bad_place: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    model = finished / "model"
    jsonl = bad_place.with_name(bad_place.name + ".jsonl")
    refused = [
        run(*workshop.training(bad_place)),
        run("audit", "reward", model, "--data", workshop.data, "--output", bad_place),
        run("score", "--model", model, "--data", workshop.data, "--output", jsonl),
        run("data", "split", "--data", workshop.scored, "--output", bad_place),
        run("data", "check", workshop.data, "--output", jsonl),
    ]
    for outcome in refused:
        assert_refused(outcome, bad_place.name.rstrip("\0")[:40])
    assert sorted(tmp_path.rglob("*")) == before


def test_things_in_the_way(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder.jsonl").mkdir()
    model = finished / "model"
    assert_refused(run(*workshop.training(tmp_path / "file")), "file: is a file")
    audit = run("audit", "reward", model, "--data", workshop.data, "--output", tmp_path / "file")
    assert_refused(audit, "file: is a file")
    words = ["score", "--model", model, "--data", workshop.data, "--output"]
    assert_refused(run(*words, tmp_path / "folder.jsonl"), "folder.jsonl: is a folder")
    assert_refused(run(*words, tmp_path / "scores.csv"), "name it .jsonl, .jsonl.gz or .parquet")
    assert_refused(run("data", "check", workshop.data, "--output", tmp_path), "is a folder")
    assert (tmp_path / "file").read_text() == "old"


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_no_permission(workshop: Workshop) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data.jsonl").write_bytes(workshop.scored.read_bytes())
        (folder / "locked").mkdir(mode=0o555)
        with ordinary_user():
            for below in ("split", "deep/er"):
                place = folder / "locked" / below
                outcome = run("data", "split", "--data", folder / "data.jsonl", "--output", place)
                assert_refused(outcome, place, "no permission for", "name a place that can be written")


def test_an_earlier_run_is_not_overwritten(workshop: Workshop, finished: Path) -> None:
    before = listing(finished)
    assert_refused(run(*workshop.training(finished)), finished, "add --resume to go on, or choose another output")
    for name, value in {"learning_rate": 2e-3, "seed": 1, "batch_size": 16, "data.max_length": 100}.items():
        changed = workshop.training(finished, "--resume", f"--{name}", value)
        assert_refused(run(*changed), "begun with another recipe", name.partition(".")[0])
    assert listing(finished) == before


def test_other_rows_are_not_gone_on_with(workshop: Workshop, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(workshop.data.read_bytes())
    words = workshop.training(tmp_path / "run", "--data.train", data, "--max_steps", 4)
    assert run(*words).code == 0
    data.write_text("".join(reversed(data.read_text().splitlines(keepends=True))))
    before = listing(tmp_path / "run")
    assert_refused(run(*words, "--resume"), data, "the rows have changed since this run was begun")
    assert listing(tmp_path / "run") == before


def test_a_finished_model_without_checkpoints(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    assert_refused(run(*workshop.training(tmp_path / "run", "--resume")), "no checkpoint to go on from")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def checkpoint_size(finished: Path) -> int:
    return sum(path.stat().st_size for path in (finished / "checkpoint-24").iterdir())


@pytest.mark.parametrize("share", [1.2, 1.4, 1.6, 1.75])
def test_full_disk_at_a_checkpoint(workshop: Workshop, finished: Path, tmp_path: Path, share: float) -> None:
    """The second checkpoint does not fit: some of its files do, and one of them only in part."""
    disk, output = tmp_path / "disk", tmp_path / "disk" / "run"
    size = checkpoint_size(finished)
    with small_disk(disk, "4m"):
        (disk / "ballast").write_bytes(b"\1" * (4 * 2**20 - int(share * size) - 65536))
        running = Running(workshop.training(output), tmp_path / "log")
        message = assert_refused(running.finish(), output, "No space left on device")
        assert "free some space" in message
        assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-4"]
        assert not (output / ".partial").exists()
        (disk / "ballast").unlink()
        assert run(*workshop.training(output, "--resume")).code == 0
        assert_same_run(output, finished)


def test_full_disk_for_results(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    disk, model = tmp_path / "disk", finished / "model"
    with small_disk(disk, "256k"):
        for name in ("scores.jsonl", "report.json"):
            (disk / name).write_text("earlier")
        (disk / "audit").mkdir()
        (disk / "audit" / "audit.json").write_text("earlier")
        (disk / "split").mkdir()
        (disk / "split" / "train.jsonl.gz").write_text("earlier")
        with contextlib.suppress(OSError):
            (disk / "ballast").write_bytes(b"\1" * 2**20)
        before = listing(disk)
        for outcome in (
            run("audit", "reward", model, "--data", workshop.data, "--output", disk / "audit", "--resamples", 9),
            run("score", "--model", model, "--data", workshop.data, "--output", disk / "scores.jsonl"),
            run("data", "split", "--data", workshop.scored, "--output", disk / "split", "--held_out_sources", 2),
            run("data", "check", workshop.data, "--output", disk / "report.json"),
        ):
            assert_refused(outcome, disk, "No space left on device", "free some space", "earlier results are untouched")
        assert listing(disk) == before


def test_full_disk_for_tokens_is_no_fault(workshop: Workshop, tmp_path: Path) -> None:
    """The cache can be done without."""
    cache = tmp_path / "disk"
    with small_disk(cache, "64k"):
        with contextlib.suppress(OSError):
            (cache / "ballast").write_bytes(b"\1" * 2**20)
        outcome = run(*workshop.training(tmp_path / "run", "--data.cache", cache, "--max_steps", 1))
        assert outcome.code == 0
        assert [path.name for path in cache.iterdir()] == ["ballast"]


def test_unwritable_cache_is_no_fault(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    words = workshop.training(tmp_path / "run", "--data.cache", tmp_path / "file" / "cache", "--max_steps", 1)
    assert run(*words).code == 0


def test_files_that_grow_too_large(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    """A limit on the size of files, as quotas have it: weights can be written, the optimiser's state cannot."""
    output = tmp_path / "run"
    running = Running(workshop.training(output), tmp_path / "log")
    assert running.wait_until(lambda: steps_logged(output) >= 6)
    running.signal(signal.SIGKILL)
    running.finish()
    kept = listing(output / "checkpoint-4")
    sizes = {path.name: path.stat().st_size for path in (finished / "checkpoint-24").iterdir()}
    for limit in (sizes["model.safetensors"] // 2, sizes["model.safetensors"] + 1000):
        running = Running(workshop.training(output, "--resume"), tmp_path / "log", file_limit=limit)
        assert_refused(running.finish(), output, "free some space")
        assert listing(output / "checkpoint-4") == kept
        assert not (output / ".partial").exists()
    assert run(*workshop.training(output, "--resume")).code == 0
    assert_same_run(output, finished)


def test_metrics_that_cannot_be_written(workshop: Workshop, tmp_path: Path) -> None:
    output = tmp_path / "run"
    (output / "metrics.jsonl").mkdir(parents=True)
    assert_refused(run(*workshop.training(output)), output / "metrics.jsonl")


def test_results_of_several_files_appear_together(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def interrupted() -> None:
        with written_together(tmp_path) as place:
            write_text(place / "a", "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert listing(tmp_path) == {"a": b"old"}
    with written_together(tmp_path) as place:
        write_text(place / "a", "new")
        write_text(place / "b", "new")
    assert listing(tmp_path) == {"a": b"new", "b": b"new"}


def test_a_reader_that_has_read_enough(workshop: Workshop) -> None:
    """`trueup data check FILE | head -0`: neither a traceback nor Python's complaint at its end."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, contextlib.redirect_stdout(pipe):
        assert main(["data", "check", str(workshop.data)]) == 141
