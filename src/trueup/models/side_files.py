"""What lies beside weights: what a model is, and how it was made."""

import json
from pathlib import Path
from typing import Any

from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, first_line
from trueup.models.kinds import members_of

SIDE_FILE = "trueup.json"
"""Beside the weights: the text format and the provenance; `docs/checkpoint.md` lists its keys."""

ADAPTER_CONFIG = "adapter_config.json"

NO_BASE = "is an adapter; write `trueup merge adapter --model {} --output PLACE`, and train on from PLACE"
"""What to tell who trains on from one."""


def is_adapter(name: str | Path) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (Path(name) / ADAPTER_CONFIG).is_file()


def folder_of_model(name: str | Path) -> Path:
    """A model's folder: of a run directory of ours, its `model`."""
    inside = Path(name) / "model"
    return inside if any((inside / file).is_file() for file in ("config.json", ADAPTER_CONFIG)) else Path(name)


def read_side_file(folder: Path) -> dict[str, Any]:
    """What the side file says; empty where there is none."""
    path = folder / SIDE_FILE
    if not path.is_file():
        return {}
    try:
        side = json.loads(path.read_text(encoding="utf-8"))
        TextFormat(**side["text_format"])
        members_of(side)
        return dict(side)
    except (ValueError, TypeError, KeyError) as error:
        cure = "restore it or save the model anew"
        raise CheckpointError(f"{path}: not as we write it ({first_line(error)}); {cure}") from error
