"""Files of a run: whole or not there at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from trueup.errors import OutputError


def sync_tree(folder: Path) -> None:
    """Flush every file below a folder, and the folders, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def output_errors(place: Path) -> Iterator[None]:
    """Turn failures to write below `place` into one clear message; what was there before stays."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        raise OutputError(_cannot_write(place, error)) from error
    except RuntimeError as error:
        # torch.save reports a full disk as a failure of its own writer
        if "PytorchStreamWriter" not in str(error) and "write" not in str(error).lower():
            raise
        raise OutputError(_cannot_write(place, error)) from error


def _cannot_write(place: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return f"{place}: cannot be written ({reason}); earlier results are untouched: make room or choose another folder"


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
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small file under a temporary name, flush it, and rename it."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".partial-{path.name}")
        try:
            with open(temporary, "w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$TRUEUP_CACHE`, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TRUEUP_CACHE") or Path(base) / "trueup")
