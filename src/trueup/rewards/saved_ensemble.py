"""An ensemble on disk: a folder that loads as one reward."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trueup.errors import CheckpointError, RecipeError
from trueup.files import write_text
from trueup.models.kinds import members_of
from trueup.models.side_files import SIDE_FILE, read_side_file
from trueup.rewards.aggregates import Aggregate, aggregate_from, aggregate_settings
from trueup.rewards.base import Reward
from trueup.rewards.ensemble import EnsembleReward, Standardization

FILE = "ensemble.json"
"""In the folder of a saved ensemble."""

FORMAT = "trueup.ensemble/1"


def is_ensemble(folder: str | Path) -> bool:
    """Whether a folder holds a saved ensemble."""
    return (Path(folder) / FILE).is_file()


def save_ensemble(
    folder: str | Path,
    *,
    members: Sequence[str | Path],
    aggregate: Aggregate,
    standardization: Standardization | None = None,
) -> Path:
    """Write an ensemble as a folder that loads as one reward; returns the folder.

    Args:
        folder: Where to. Members may already lie in it.
        members: Each one's folder, or any other name that a reward can have. Places inside `folder` are written
            relative to it, so that the whole can be moved, and others by their full path.
        aggregate: How they become one.
        standardization: Constants that bring members to one scale.

    Raises:
        RecipeError: There are no members, or not as many as constants.
        OutputError: The file cannot be written.
    """
    if not members:
        raise RecipeError("an ensemble needs at least one member")
    if standardization is not None and len(standardization.mean) != len(members):
        raise RecipeError(f"standardisation is for {len(standardization.mean)} members, there are {len(members)}")
    folder = Path(folder)
    whole = {
        "format": FORMAT,
        "aggregate": aggregate_settings(aggregate),
        "members": [_reference(folder, str(member)) for member in members],
        "standardization": asdict(standardization) if standardization is not None else None,
    }
    write_text(folder / FILE, json.dumps(whole, indent=2, sort_keys=True) + "\n")
    return folder


@dataclass(frozen=True, kw_only=True)
class SavedEnsemble:
    """What the file of a saved ensemble says.

    Args:
        members: Name of each member.
        aggregate: How they become one.
        standardization: Constants that bring members to one scale.
    """

    members: tuple[str, ...]
    aggregate: Aggregate
    standardization: Standardization | None


def read_ensemble(folder: str | Path) -> SavedEnsemble:
    """Read the file of a saved ensemble.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    folder = Path(folder)
    path = folder / FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise ValueError(f"format is {saved['format']!r}; expected {FORMAT!r}")
        members = _members(folder, saved["members"])
        return SavedEnsemble(
            members=members,
            aggregate=aggregate_from(saved["aggregate"]),
            standardization=standardization_from(saved["standardization"], members=len(members)),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not as we write it ({reason}); restore it or save the ensemble anew") from error


def load_ensemble(folder: str | Path, *, load: Callable[[str], Reward], name: str | None = None) -> EnsembleReward:
    """Load a saved ensemble.

    Args:
        folder: Where `save_ensemble` wrote it.
        load: Loads a member by name.
        name: What reports call it; the folder's name by default.

    Raises:
        CheckpointError: The file or a member is missing or damaged.
    """
    saved = read_ensemble(folder)
    try:
        members = [load(member) for member in saved.members]
    except CheckpointError as error:
        raise CheckpointError(f"{Path(folder) / FILE}: a member cannot be loaded: {error}") from error
    return EnsembleReward(
        members=members,
        aggregate=saved.aggregate,
        name=name or Path(folder).name,
        standardization=saved.standardization,
    )


def store_standardization(folder: str | Path, standardization: Standardization) -> None:
    """Record constants in a folder that holds an ensemble of any kind; it is loaded with them from then on.

    Raises:
        CheckpointError: The folder holds no ensemble of so many members.
        OutputError: The file cannot be written.
    """
    folder = Path(folder)
    if is_ensemble(folder):
        path, members = folder / FILE, len(read_ensemble(folder).members)
        whole = json.loads(path.read_text(encoding="utf-8"))
        whole["standardization"] = asdict(standardization)
    else:
        path, whole = folder / SIDE_FILE, read_side_file(folder)
        members = members_of(whole)
        whole["ensemble"] = {**whole.get("ensemble", {}), "standardization": asdict(standardization)}
    if members != len(standardization.mean):
        raise CheckpointError(f"{path}: has {members} members, the constants are for {len(standardization.mean)}")
    write_text(path, json.dumps(whole, indent=2, sort_keys=True) + "\n")


def _reference(folder: Path, member: str) -> str:
    """How a file in `folder` names a member."""
    path = Path(member)
    if not path.exists():
        return member
    whole, home = path.resolve(), folder.resolve()
    return whole.relative_to(home).as_posix() if whole != home and whole.is_relative_to(home) else str(whole)


def _members(folder: Path, names: object) -> tuple[str, ...]:
    """Where the members are that a file in `folder` names."""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"members is {names!r}; expected folders or names")
    if any((folder / name).resolve() == folder.resolve() for name in names):
        raise ValueError("it names itself as a member")
    return tuple(str(folder / name) if (folder / name).exists() else name for name in names)


def standardization_from(constants: Any, *, members: int) -> Standardization | None:
    """The standardisation that plain values describe; None where there is none.

    Raises:
        ValueError: They describe none, or one of another number of members.
    """
    if constants is None:
        return None
    try:
        found = Standardization(
            mean=tuple(constants["mean"]), std=tuple(constants["std"]), responses=int(constants["responses"])
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"standardization is {constants!r}; expected mean, std and responses") from error
    if len(found.mean) != members:
        raise ValueError(f"standardisation is for {len(found.mean)} members, there are {members}")
    return found
