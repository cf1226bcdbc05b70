"""Merging checkpoints on disk: any number, slice by slice from mapped files, whatever their size.

Each result is a sum of the models' tensors with shares that add up to one: the same shares everywhere for soups,
moving averages and interpolation to the start; shares of each layer for spherical merges.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueup.errors import CheckpointError, NonFiniteError
from trueup.files import written_whole
from trueup.functional.params import combine
from trueup.merging.checks import check_configs, check_tensors, check_tokenizers, model_folder
from trueup.merging.settings import write_json, write_settings
from trueup.merging.shares import Shares, slices
from trueup.models.side_files import read_side_file
from trueup.models.weight_files import StoredTensor, WeightFiles, open_weights, write_index, write_weights

RECORD = "merge.json"
"""Beside the merged weights: what they were made of."""


@dataclass(frozen=True)
class Merged:
    """A merged checkpoint.

    Args:
        output: Its folder.
        tensors: How many tensors it holds.
        parameters: How many numbers.
        models: How many models it was made of.
    """

    output: Path
    tensors: int
    parameters: int
    models: int

    def summary(self) -> str:
        """One line."""
        size = f"{self.tensors} tensors, {self.parameters:,} parameters"
        return f"{self.models} models merged ({size}): {self.output}"


def merge_checkpoints(
    models: Sequence[str | Path],
    output: Path,
    *,
    shares: Shares,
    like: int = 0,
    dtype: torch.dtype | None = None,
    record: Mapping[str, Any] | None = None,
) -> Merged:
    """Merge models into a new folder, which appears whole or not at all; one that is there is replaced.

    In memory are at most the largest tensor of each model, as pages of their files, and a few slices.

    Args:
        models: Folders, or run directories of ours; the start first where `shares` needs one.
        output: The folder to write.
        shares: Of each model, by tensor.
        like: Which model the settings, the tokenizer, the text format and the cut into files come from.
        dtype: Type of floating tensors in the result; by default the models', which must agree.
        record: What `merge.json` says besides.

    Raises:
        CheckpointError: A model is missing or damaged, or the models do not fit together.
        NonFiniteError: The merged weights are not finite.
        OutputError: The folder cannot be written.
    """
    folders = [model_folder(model) for model in models]
    check_configs(folders)
    sources = [open_weights(folder) for folder in folders]
    check_tensors(sources, dtype=dtype)
    check_tokenizers(folders)
    side = read_side_file(folders[like])
    found = shares(sources)
    planned = [_as_type(stored, dtype) for stored in sources[like].tensors.values()]
    with written_whole(output) as temporary:
        _write_all(temporary, planned, partial(_pieces, sources, found))
        write_settings(temporary, folders[like], dtype=dtype, side=side)
        write_json(temporary / RECORD, {**(record or {}), "shares": _compact(found)})
    return Merged(output, len(planned), sum(stored.elements for stored in planned), len(models))


def _as_type(stored: StoredTensor, dtype: torch.dtype | None) -> StoredTensor:
    return replace(stored, dtype=dtype) if dtype is not None and stored.dtype.is_floating_point else stored


def _pieces(
    sources: Sequence[WeightFiles], shares: Mapping[str, Sequence[float]], stored: StoredTensor
) -> Iterator[Tensor]:
    """Merged slices of one tensor."""
    for parts in slices(sources, stored.name):
        try:
            piece = combine(parts, shares[stored.name]).to(stored.dtype)
        except ValueError as error:
            places = ", ".join(str(source.place_of(stored.name)) for source in sources)
            raise CheckpointError(f"{places}: `{stored.name}`: {error}; merge models of one kind") from error
        if stored.dtype.is_floating_point and not torch.isfinite(piece.sum(dtype=torch.float32)):
            _refuse_infinite(piece, stored)
        yield piece


def _refuse_infinite(piece: Tensor, stored: StoredTensor) -> None:
    """A sum may overflow where no number has."""
    if not torch.isfinite(piece).all():
        kind = str(stored.dtype).removeprefix("torch.")
        raise NonFiniteError(
            f"`{stored.name}`: the merged weights are not finite in {kind}; a model is damaged, or shares beyond one "
            "need a wider --dtype"
        )


def _write_all(folder: Path, planned: Sequence[StoredTensor], pieces: Callable[[StoredTensor], Any]) -> None:
    files = sorted({stored.file for stored in planned})
    for file in files:
        write_weights(folder / file, [stored for stored in planned if stored.file == file], pieces)
    if len(files) > 1:
        write_index(folder, planned)


def _compact(shares: Mapping[str, Sequence[float]]) -> Any:
    """One list where all tensors have the same shares."""
    values = [list(share) for share in shares.values()]
    return values[0] if all(value == values[0] for value in values) else dict(zip(shares, values, strict=True))
