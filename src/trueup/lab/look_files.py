"""What was seen of policies, on disk: a file of arrays for each run."""

from collections.abc import Callable
from pathlib import Path

from trueup.lab.kept_arrays import read_arrays, write_arrays
from trueup.lab.optimizing import Looks

ARRAYS = ("step", "gold", "proxy", "kl", "tokens", "finished")


def read_looks(path: Path) -> Looks | None:
    """What `write_looks` wrote; None where nothing, or a damaged file, is there."""
    known = read_arrays(path, ARRAYS)
    if known is None:
        return None
    values, texts = known
    return Looks(texts=tuple(tuple(tuple(group) for group in look) for look in texts), **values)


def write_looks(path: Path, looks: Looks) -> None:
    """Write them, whole or not at all."""
    write_arrays(path, {name: getattr(looks, name) for name in ARRAYS}, looks.texts)


def kept_looks(path: Path, make: Callable[[], Looks]) -> Looks:
    """Read what is there, or make and write it."""
    known = read_looks(path)
    if known is None:
        known = make()
        write_looks(path, known)
    return known
