"""Weights on disk, mapped into memory: read where they lie, a slice at a time, and written the same way.

The safetensors library checks the files; the slices are our own, so that no tensor is ever copied whole and pages that
were read are given back.
"""

import json
import math
import mmap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trueup.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in TYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies.

    Args:
        name: Its key.
        dtype: Its type.
        shape: Its shape.
        file: Name of the file that holds it.
        start: Its first byte, counted from the beginning of the file.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    file: str
    start: int = 0

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of one checkpoint, in one file or several.

    Args:
        folder: Where the files are.
        tensors: What they hold, by key.
        maps: The mapped files, by name.
        contents: Their bytes.
    """

    folder: Path
    tensors: Mapping[str, StoredTensor]
    maps: Mapping[str, mmap.mmap]
    contents: Mapping[str, Tensor]

    def flat(self, name: str) -> Tensor:
        """One tensor as a vector that is read from the file where it is used; never write to it."""
        stored = self.tensors[name]
        raw = self.contents[stored.file][stored.start : stored.start + stored.size]
        aligned = stored.start % stored.dtype.itemsize == 0
        return (raw if aligned else raw.clone()).view(stored.dtype)

    def place_of(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self.folder / self.tensors[name].file

    def release(self, name: str, *, begin: int, end: int) -> None:
        """Give back the memory of numbers that were read, from `begin` up to `end`."""
        stored = self.tensors[name]
        if hasattr(mmap, "MADV_DONTNEED"):
            first, last = (stored.start + number * stored.dtype.itemsize for number in (begin, end))
            page = first // mmap.PAGESIZE * mmap.PAGESIZE
            self.maps[stored.file].madvise(mmap.MADV_DONTNEED, page, last - page)


def open_weights(folder: Path) -> WeightFiles:
    """Map the weights of a checkpoint.

    Raises:
        CheckpointError: There are none as safetensors, or files are missing or damaged.
    """
    listed = _listed(folder)
    tensors: dict[str, StoredTensor] = {}
    maps = {}
    for file in sorted(set(listed.values())) if listed is not None else [SINGLE]:
        for stored in _stored(folder / file):
            if stored.name in tensors or (listed is not None and listed.get(stored.name) != file):
                raise CheckpointError(f"{folder / file}: holds `{stored.name}`, which {INDEX} places elsewhere")
            tensors[stored.name] = stored
        with (folder / file).open("rb") as handle:
            maps[file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    lacking = sorted(set(listed or ()) - set(tensors))
    if lacking:
        raise CheckpointError(f"{folder / INDEX}: lists `{lacking[0]}`, which no file holds; restore the files")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        contents = {file: torch.frombuffer(content, dtype=torch.uint8) for file, content in maps.items()}
    return WeightFiles(folder, tensors, maps, contents)


def _listed(folder: Path) -> dict[str, str] | None:
    """The file of each tensor by the index; None where one file holds all."""
    if (folder / SINGLE).is_file():
        return None
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no weights as safetensors ({SINGLE} or {INDEX}); save the model so")
    try:
        listed = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
        if not all(isinstance(file, str) and Path(file).name == file for file in listed.values()):
            raise ValueError("a file is named by more than its name")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); restore it") from error
    return listed


def _stored(path: Path) -> Iterator[StoredTensor]:
    header, begin = _header(path)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in TYPES:
            raise CheckpointError(f"{path}: `{name}` has the type {entry['dtype']}; known: {', '.join(TYPES)}")
        start = begin + entry["data_offsets"][0]
        yield StoredTensor(name, TYPES[entry["dtype"]], tuple(entry["shape"]), path.name, start)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a file says of its tensors, and where their bytes begin."""
    try:
        with safe_open(path, framework="pt"), path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            return json.loads(handle.read(length)), 8 + length
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; restore the file") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the weights are damaged ({error}); restore the file") from error


def write_weights(
    path: Path, tensors: Sequence[StoredTensor], pieces: Callable[[StoredTensor], Iterable[Tensor]]
) -> None:
    """Write a safetensors file slice by slice.

    Args:
        path: The file; callers give a temporary place and move it.
        tensors: Name, type and shape of each; where they lay before does not count.
        pieces: The slices of one tensor, flat, in their order and in its type.

    Raises:
        OSError: There is no room.
    """
    ordered = sorted(tensors, key=lambda stored: (-stored.dtype.itemsize, stored.name))  # keeps all of them aligned
    with path.open("xb") as handle:
        handle.write(_written_header(ordered))
        for stored in ordered:
            begin = handle.tell()
            for piece in pieces(stored):
                handle.write(piece.contiguous().view(torch.uint8).numpy().data)
            if handle.tell() - begin != stored.size:
                raise ValueError(f"{stored.name}: {handle.tell() - begin} bytes instead of {stored.size}")


def _written_header(tensors: Sequence[StoredTensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for stored in tensors:
        offsets = [end, end := end + stored.size]
        header[stored.name] = {"dtype": _CODES[stored.dtype], "shape": list(stored.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_index(folder: Path, tensors: Iterable[StoredTensor]) -> None:
    """Write which file holds which tensor, where there are several files."""
    tensors = list(tensors)
    size = sum(stored.size for stored in tensors)
    index = {"metadata": {"total_size": size}, "weight_map": {stored.name: stored.file for stored in tensors}}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
