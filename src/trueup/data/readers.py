"""From a source to raw records: files, folders of files, saved `datasets`, and hub ids.

No source ever runs code of its own: `trust_remote_code` is never passed on, and nothing is unpickled.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trueup.data.files import Entry, Record, read_file
from trueup.data.rows import Origin
from trueup.errors import DataError

Split = TypeVar("Split")

_DATA_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?")
_SHARD = re.compile(r"[-_.]\d+(-of-\d+)?$")


def read_records(source: str | Path, *, split: str | None = None) -> Iterator[tuple[Origin, Record]]:
    """Yield (place, record) for every record of a source; blank lines are skipped.

    Args:
        source: A file, a folder of data files, a folder made by `save_to_disk`, or a hub id (`owner/name`, or
            `owner/name:config`).
        split: Which split of a folder or hub id; needed where there are several.

    Raises:
        DataError: The source is missing, damaged, or holds no record.
    """
    for origin, record in read_entries(source, split=split):
        if record is not None:
            yield origin, record


def read_entries(source: str | Path, *, split: str | None = None) -> Iterator[Entry]:
    """As `read_records`, with (place, None) for each blank line, so that callers can count them."""
    found_any = False
    for origin, record in _open(source, split=split):
        found_any = found_any or record is not None
        yield origin, record
    if not found_any:
        raise DataError("zero usable rows", file=source, cure="check how the data were made")


def _open(source: str | Path, *, split: str | None) -> Iterator[Entry]:
    try:
        path = Path(source).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"is no valid file name ({error})", file=repr(str(source))) from error
    if is_folder and any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        return _saved_dataset(path, split=split)
    if is_folder:
        return _folder(path, split=split)
    if exists:
        return _single_file(path, split=split)
    if _looks_like_hub_id(str(source)):
        return _hub_dataset(str(source), split=split)
    raise DataError("no such file or folder", file=source, cure="check the path")


def _single_file(path: Path, *, split: str | None) -> Iterator[Entry]:
    if split is not None:
        raise DataError(f"a single file has no split `{split}`", file=path, cure="leave the split out")
    if not path.is_file():
        raise DataError("is not a regular file", file=path, cure="copy the data to a file first")
    return read_file(path)


def _looks_like_hub_id(source: str) -> bool:
    return bool(_HUB_ID.fullmatch(source)) and not source.lower().endswith((*_DATA_SUFFIXES, ".gz", ".txt", ".csv"))


def _folder(folder: Path, *, split: str | None) -> Iterator[Entry]:
    files = sorted(path for path in folder.rglob("*") if _is_data_file(path.relative_to(folder)) and path.is_file())
    if not files:
        expected = f"files that end in {', '.join(_DATA_SUFFIXES)}"
        raise DataError("the folder holds no data files", file=folder, expected=expected)
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(_split_name(path, folder), []).append(path)
    for path in _choose(by_split, split, folder):
        yield from read_file(path)


def _is_data_file(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.name.endswith(_DATA_SUFFIXES) and path.name != "dataset_infos.json" and not hidden


def _split_name(path: Path, folder: Path) -> str:
    """Split of a data file: its name without suffix and shard number, or its folder if that says nothing."""
    stem = next(path.name.removesuffix(end) for end in reversed(_DATA_SUFFIXES) if path.name.endswith(end))
    name = _SHARD.sub("", stem)
    says_nothing = name.isdigit() or name in {"", "data", "part", "shard"}
    if says_nothing and path.parent != folder:
        return path.parent.name
    return "train" if says_nothing else name


def _choose(by_split: Mapping[str, Split], split: str | None, source: str | Path) -> Split:
    """The split asked for, or the only one."""
    names = ", ".join(sorted(by_split))
    if split is None and len(by_split) > 1:
        raise DataError(f"there are several splits: {names}", file=source, cure="name one split")
    if split is not None and split not in by_split:
        raise DataError(f"there is no split `{split}`", file=source, expected=f"one of: {names}")
    return by_split[split] if split is not None else next(iter(by_split.values()))


def _saved_dataset(folder: Path, *, split: str | None) -> Iterator[Entry]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # whatever the library trips over in a damaged folder is the folder's fault
        cure = "save it again with `save_to_disk`"
        raise DataError(f"the saved dataset cannot be loaded ({_brief(error)})", file=folder, cure=cure) from error
    yield from _dataset_entries(loaded, str(folder), split=split)


def _hub_dataset(hub_id: str, *, split: str | None) -> Iterator[Entry]:
    import datasets

    name, _, config = hub_id.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # network, authorisation, missing repository, script: all are the source's fault
        raise DataError(
            f"no such file, and the hub data set cannot be loaded ({_brief(error)})",
            file=hub_id,
            cure="check the path or hub id and the network; a configuration is named as `owner/name:config`",
        ) from error
    yield from _dataset_entries(loaded, hub_id, split=split)


def _dataset_entries(loaded: Any, source: str, *, split: str | None) -> Iterator[Entry]:
    if isinstance(loaded, Mapping):
        loaded = _choose(loaded, split, source)
    elif split is not None and str(loaded.split) != split:
        raise DataError(f"there is no split `{split}`", file=source, expected=f"the only split, {loaded.split}")
    row = 0
    try:
        for row, record in enumerate(loaded, start=1):
            yield Origin(source, row), dict(record)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"the data set cannot be read ({_brief(error)})", file=source, row=row + 1) from error


def _brief(error: Exception) -> str:
    """First line of an error's text, with its type."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
