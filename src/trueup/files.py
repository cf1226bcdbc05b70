"""Files of a run: whole or not there at all."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from safetensors import SafetensorError

from trueup.errors import OutputError

PARTIAL = ".partial"
"""Begins or ends the name of whatever is not finished; such a name is never read as a result."""


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once everything is written and synced.

    Missing folders are made. On any error the file at `path` stays as it was, and nothing else is left behind.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    try:
        target = Path(os.path.realpath(path))
    except (ValueError, OSError) as error:
        raise OutputError(f"{str(path)!r} is no valid file name ({error})") from error
    temporary = target.with_name(f".{uuid4().hex[:12]}{PARTIAL}")
    with output_errors(Path(path)):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_text(path: str | Path, text: str) -> Path:
    """Write a text as UTF-8, whole or not at all; returns the path.

    Raises:
        OutputError: The file cannot be written; what was at `path` before is untouched.
    """
    with atomic_write(path) as handle:
        # a lone surrogate, from a file name that is not UTF-8, is written as its escape
        handle.write(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def move_into_place(source: Path, target: Path) -> None:
    """Flush a finished folder and give it its name; one that already has the name is replaced as a whole."""
    sync_tree(source)
    if target.exists():
        aside = target.with_name(f".old-{target.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
        os.rename(source, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(source, target)
    _sync_folder(target.parent)


def sync_tree(folder: Path) -> None:
    """Flush every file below a folder, and the folders, to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make new names themselves durable, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def output_errors(place: Path) -> Iterator[None]:
    """Turn failures to write below `place` into one clear message; what was there before stays.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if not _is_failure_to_write(error):
            raise
        raise OutputError(f"{place}: cannot be written ({_reason(error)}); {_cure(error)}") from error


def _is_failure_to_write(error: Exception) -> bool:
    """Libraries report a full disk in words of their own: torch.save, safetensors, and tokenizers by a bare error."""
    if isinstance(error, (OSError, SafetensorError)):
        return True
    if isinstance(error, RuntimeError):
        return "PytorchStreamWriter" in str(error) or "write" in str(error).lower()
    return type(error) is Exception and "os error" in str(error)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0])


def _cure(error: Exception) -> str:
    number = getattr(error, "errno", None) or next(map(int, re.findall(r"os error (\d+)", str(error))), None)
    full = number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} or "PytorchStreamWriter" in str(error)
    cure = "free some space or name another folder" if full else "name a place that can be written"
    return f"{cure}; earlier results are untouched"


def check_output(path: Path, *, folder: bool) -> None:
    """Stop before long work whose result could not be written: something is in the way, or there is no permission.

    Raises:
        OutputError: A folder (or file) of that name cannot be made.
    """
    try:
        nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(path)!r} is no valid file name ({error})") from error
    if nearest == path and path.is_dir() != folder:
        found = "is a file" if folder else "is a folder"
        raise OutputError(f"{path}: {found}; name another place")
    parent = nearest if nearest.is_dir() else nearest.parent
    if nearest not in (path, parent):
        raise OutputError(f"{path}: cannot be written ({nearest} is a file); name a place that can be written")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written (no permission for {parent}); name a place that can be written")


@contextlib.contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files all move into `folder` once everything is written; on an error none does.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    temporary = folder / f".{uuid4().hex[:12]}{PARTIAL}"
    with output_errors(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for path in sorted(temporary.iterdir()):
                path.replace(folder / path.name)
            _sync_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$TRUEUP_CACHE`, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TRUEUP_CACHE") or Path(base) / "trueup")
