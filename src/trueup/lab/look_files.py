"""What was seen of policies, on disk: a file of arrays for each run."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trueup.files import atomic_write
from trueup.lab.optimizing import Looks

logger = logging.getLogger(__name__)

ARRAYS = ("step", "gold", "proxy", "kl", "tokens", "finished")


def read_looks(path: Path) -> Looks | None:
    """What `write_looks` wrote; None where nothing, or a damaged file, is there."""
    if not path.is_file():
        return None
    try:
        # Opened here, since numpy leaves a file open that turns out to be damaged.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            values: dict[str, Any] = {name: held[name] for name in held.files}
        texts = json.loads(values.pop("texts").tobytes())
        return Looks(texts=tuple(tuple(tuple(group) for group in look) for look in texts), **values)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        logger.warning("%s: damaged, and made again", path)
        return None


def write_looks(path: Path, looks: Looks) -> None:
    """Write them, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        arrays = {name: getattr(looks, name) for name in ARRAYS}
        np.savez_compressed(handle, texts=np.frombuffer(json.dumps(looks.texts).encode(), np.uint8), **arrays)


def kept_looks(path: Path, make: Callable[[], Looks]) -> Looks:
    """Read what is there, or make and write it."""
    known = read_looks(path)
    if known is None:
        known = make()
        write_looks(path, known)
    return known
