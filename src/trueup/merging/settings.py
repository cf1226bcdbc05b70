"""What lies beside merged weights: settings, tokenizer and text format of one of the models."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trueup.merging.checks import read_json
from trueup.models.side_files import SIDE_FILE

_COPIED = (
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "additional_chat_templates/*",
    "*processor_config.json",
    "*.py",
)
_KEPT = ("format", "text_format", "pad_token", "pooling", "ensemble")
"""What the side file says of the model's use; the rest tells how the one model was made, which is not how this was."""


def write_settings(folder: Path, source: Path, *, dtype: torch.dtype | None, side: Mapping[str, Any]) -> None:
    """Copy them into the folder of the merged weights, and state these weights' type."""
    config = read_json(source / "config.json")
    if dtype is not None:
        config.pop("torch_dtype", None)
        config["dtype"] = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", config)
    for path in sorted({path for pattern in _COPIED for path in source.glob(pattern) if path.is_file()}):
        target = folder / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    if side:
        write_json(folder / SIDE_FILE, {key: side[key] for key in _KEPT if key in side})


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write settings as JSON, sorted by their names."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
