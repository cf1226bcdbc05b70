"""What the recipe beside a run says, read without any model code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trueup.errors import CheckpointError, DataError

Known = Mapping[str, Any]


def read_recipe(path: Path) -> Known:
    """A run's recipe; empty where there is none.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: is no recipe that can be read; restore it, or name the run's model") from error
    return found if isinstance(found, Mapping) else {}


def refuse_unmeasured(place: Path) -> None:
    """Say what is needed where a policy is named alone that has no record of its own samples.

    Raises:
        DataError: It is a model, or a run on given responses.
    """
    recipe = read_recipe(place / "recipe.yaml") if place.is_dir() else {}
    in_rounds = "rounds" in recipe and "oracle" in recipe
    offline = in_rounds or ("method" in recipe and "samples" not in recipe)
    is_model = any((place / file).is_file() for file in ("config.json", "adapter_config.json"))
    if offline or is_model:
        what = "a run without a record of its own samples" if offline else "a model, and not the record of a run"
        raise DataError(
            f"is {what}", file=place, cure="name held-out --prompts FILE, or --pairs FILE, to measure it on"
        )
