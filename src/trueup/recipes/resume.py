"""Going on with a run that was stopped: from which checkpoint, whether it is whole, and whether it is the same run."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from trueup.errors import CheckpointError, DataError, OutputError, RecipeError
from trueup.files import check_output, write_text
from trueup.models.side_files import SIDE_FILE
from trueup.recipes.config import dump, read_yaml
from trueup.train.devices import First

_FREE = frozenset({"resume", "token_budget", "logging_steps", "keep_checkpoints", "report_to", "output"})
"""Fields that change no number, and so may differ between a run and its continuation."""


def checkpoint_to_resume(output: Path, *, resume: bool) -> Path | None:
    """The last checkpoint of the run, checked to be whole; None for a run that begins.

    Raises:
        OutputError: The folder cannot be written, or holds a run that nothing says to go on with.
        CheckpointError: The checkpoint is damaged.
    """
    check_output(output, folder=True)
    numbers = {path: path.name.rpartition("-")[2] for path in output.glob("checkpoint-*") if path.is_dir()}
    found = sorted((path for path, number in numbers.items() if number.isdecimal()), key=lambda p: int(numbers[p]))
    if not resume and (found or (output / "model").exists()):
        raise OutputError(f"{output}: holds an earlier run; add --resume to go on, or choose another output")
    if resume and not found and (output / "model").exists():
        raise OutputError(f"{output}: holds a finished model and no checkpoint to go on from; choose another output")
    if not found:
        return None
    check_whole(found[-1])
    return found[-1]


def check_whole(checkpoint: Path) -> None:
    """Stop where a file that continues the run is missing or damaged; weights are checked as they are loaded.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    sharded = any("optimizer" in path.name for path in checkpoint.iterdir() if path.is_dir())
    needed = ["trainer_state.json", "scheduler.pt", "rng_state*.pth", *([] if sharded else ["optimizer.pt"])]
    for name in needed:
        files = sorted(checkpoint.glob(name))
        if not files:
            raise CheckpointError(f"{checkpoint}: lacks {name}; delete this checkpoint to resume from an earlier one")
        for path in files:
            _check_file(path)


def _check_file(path: Path) -> None:
    try:
        if path.suffix == ".json":
            state = json.loads(path.read_text(encoding="utf-8"))
            damaged = None if isinstance(state, dict) and "global_step" in state else "not a trainer's state"
        else:
            with zipfile.ZipFile(path) as archive:  # what torch.save writes, with a checksum of every entry
                damaged = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        damaged = str(error)
    if damaged is not None:
        cure = "delete this checkpoint to resume from an earlier one"
        raise CheckpointError(f"{path}: the file is damaged ({damaged}); {cure}")


def open_whole(recipe: Any, first: First, *, prepare: Callable[[], object] = lambda: None) -> None:
    """Open the folder of a run that is made of runs, and write the recipe there.

    Args:
        recipe: The whole run's recipe.
        first: Which of several processes does it.
        prepare: What else must succeed before anything is written.

    Raises:
        OutputError: The folder cannot be written, or holds an earlier run and nothing says to go on with it.
        RecipeError: It holds another run.
    """
    path = recipe.output / "recipe.yaml"

    def work() -> None:
        check_output(recipe.output, folder=True)
        if path.is_file() and not recipe.resume:
            raise OutputError(f"{recipe.output}: holds an earlier run; add --resume to go on, or choose another output")
        if path.is_file():
            check_same_recipe(recipe, path)
        prepare()
        recipe.output.mkdir(parents=True, exist_ok=True)
        write_text(path, dump(replace(recipe, resume=False)))

    first.does(work)


def check_same_recipe(recipe: Any, path: Path) -> None:
    """A resumed run must be the run that was begun, but for what changes no number.

    Raises:
        RecipeError: It is another; the fields are named.
    """
    before, now = read_yaml(path), yaml.safe_load(dump(recipe))
    changed = [name for name in now if name not in _FREE and before.get(name) != now[name]]
    if changed:
        names = ", ".join(f"{name} ({before.get(name)} before, {now[name]} now)" for name in changed[:3])
        raise RecipeError(f"{path}: this run was begun with another recipe: {names}; resume with the same one")


def check_same_data(checkpoint: Path, *, fingerprint: str, source: str) -> None:
    """A resumed run must go on with the rows it was begun with.

    Raises:
        DataError: The rows are others.
        CheckpointError: The side file is missing or damaged.
    """
    path = checkpoint / SIDE_FILE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["data"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        cure = "delete this checkpoint to resume from an earlier one"
        raise CheckpointError(f"{path}: does not say which rows were trained on; {cure}") from error
    if before != fingerprint:
        found = "the rows have changed since this run was begun"
        raise DataError(found, file=source, cure="restore the file, or begin a new run in another output")
