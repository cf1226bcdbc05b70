"""Files that appear whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from trueup.errors import OutputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once everything is written and synced.

    Missing folders are made. On any error the file at `path` stays as it was, and nothing else is left behind.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    try:
        target = Path(os.path.realpath(Path(path).expanduser()))
    except (ValueError, OSError) as error:
        raise OutputError(f"{str(path)!r} is no valid file name ({error})") from error
    temporary = target.with_name(f".{uuid4().hex[:12]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; {_cure(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cure(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "free some space or name another folder; nothing was written"
    return "name a place that can be written; nothing was written"
