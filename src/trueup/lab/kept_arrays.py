"""Arrays and texts of one run in one file, whole or not at all; a damaged file is as good as none."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trueup.files import atomic_write

logger = logging.getLogger(__name__)


def read_arrays(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Any], Any] | None:
    """Arrays by name, and the texts as JSON has them; None where nothing, or a damaged file, is there."""
    if not path.is_file():
        return None
    try:
        # Opened here, since numpy leaves a file open that turns out to be damaged.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            return {name: held[name] for name in names}, json.loads(held["texts"].tobytes())
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        logger.warning("%s: damaged, and made again", path)
        return None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], texts: object) -> None:
    """Write both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        known: dict[str, Any] = dict(arrays)
        np.savez_compressed(handle, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **known)
