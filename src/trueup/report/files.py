"""Write a text file wholly or not at all."""

import contextlib
import os
import secrets
from pathlib import Path

from trueup.errors import OutputError


def write_text(text: str, path: str | Path) -> Path:
    """Write `text` as UTF-8 under a temporary name, flush it to disk, and rename it to `path`.

    Readers see the old file or the whole new one. The folder is made where it is absent.

    Raises:
        OutputError: The file cannot be written; what was at `path` before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(text.encode("utf-8"), temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written: {reason}; choose another place or make room, nothing was changed"
        ) from error
    return path


def _write_and_rename(content: bytes, temporary: Path, path: Path) -> None:
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder; the file itself is safe
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
