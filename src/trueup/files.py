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

_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "iostream error", "inline_container.cc", "failed writing")


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


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name, and place, once everything is written; or never.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    target = folder.resolve()
    temporary = target.with_name(f".{target.name}{PARTIAL}")
    with output_errors(folder):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished in a folder; nobody else may be writing there."""
    for pattern in (f"{PARTIAL}*", ".old-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


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
        reason, cure = _explain(error, place)
        raise OutputError(f"{place}: cannot be written ({reason}); {cure}; earlier results are untouched") from error


def _is_failure_to_write(error: Exception) -> bool:
    """Libraries report a full disk in words of their own: torch.save, safetensors, and tokenizers by a bare error."""
    if isinstance(error, (OSError, SafetensorError)):
        return True
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _TORCH_CANNOT_WRITE)
    return type(error) is Exception and "os error" in str(error)


def _explain(error: Exception, place: Path) -> tuple[str, str]:
    """What is wrong and what to do about it."""
    number = getattr(error, "errno", None) or next(map(int, re.findall(r"os error (\d+)", str(error))), None)
    reason = str(getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0])
    if isinstance(error, RuntimeError):
        number = errno.ENOSPC
        reason = os.strerror(number) if _is_full(place) else "torch could not write a file to its end"
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return reason, "free some space or name another folder"
    return reason, "name a place that can be written"


def _is_full(place: Path) -> bool:
    nearest = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(nearest).free < 2**20


def check_output(path: Path, *, folder: bool) -> None:
    """Stop before long work whose result could not be written: something is in the way, or there is no permission.

    Raises:
        OutputError: A folder (or file) of that name cannot be made.
    """
    try:
        if "\0" in str(path):
            raise ValueError("embedded null byte")
        nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(path)!r} is no valid file name ({error})") from error
    if nearest == path and path.is_dir() != folder:
        found = "is a file" if folder else "is a folder"
        raise OutputError(f"{path}: {found}; name another place")
    parent = nearest if nearest.is_dir() else nearest.parent
    if nearest not in (path, parent):
        raise OutputError(f"{path}: cannot be written ({nearest} is a file); name a place that can be written")
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
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
