"""Whether models can be merged at all: one architecture, one vocabulary, the same tensors."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trueup.errors import CheckpointError
from trueup.models.side_files import folder_of_model, is_adapter
from trueup.models.tokenizers import load_tokenizer, refuse_missing_folder
from trueup.models.weight_files import WeightFiles

logger = logging.getLogger(__name__)

_INESSENTIAL = (
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "use_cache",
    "id2label",
    "label2id",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
"""Settings that do not change what weights compute; beside them, dropout."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def model_folder(name: str | Path) -> Path:
    """The folder of a whole model; of a run directory, its `model`.

    Raises:
        CheckpointError: There is none, or it is an adapter.
    """
    refuse_missing_folder(str(name))
    folder = Path(name)
    if not folder.is_dir():
        raise CheckpointError(f"{name}: is no folder; download a model of the hub first (hf download)")
    folder = folder_of_model(folder)
    if is_adapter(folder):
        raise CheckpointError(
            f"{folder}: is an adapter, and a merge of its two factors is another model than the merge of what they "
            "stand for; make whole models of them first (trueup merge adapter)"
        )
    return folder


def check_tensors(sources: Sequence[WeightFiles], *, dtype: torch.dtype | None) -> None:
    """Compare keys, shapes and types; with `dtype`, floating types may differ.

    Raises:
        CheckpointError: They are not those of the first.
    """
    first = sources[0]
    for other in sources[1:]:
        for name in sorted(first.tensors.keys() ^ other.tensors.keys()):
            has, lacks = (first, other) if name in first.tensors else (other, first)
            raise CheckpointError(
                f"{has.place_of(name)}: holds `{name}`, which {lacks.folder} lacks; merge models of one kind"
            )
        for name, stored in first.tensors.items():
            there = other.tensors[name]
            both = f"{first.place_of(name)} and {other.place_of(name)}"
            if stored.shape != there.shape:
                raise CheckpointError(
                    f"{both}: `{name}` has the shape {stored.shape} in the first and {there.shape} in the second; "
                    "merge models of one size"
                )
            free = dtype is not None and stored.dtype.is_floating_point and there.dtype.is_floating_point
            if stored.dtype != there.dtype and not free:
                raise CheckpointError(
                    f"{both}: `{name}` is {_short(stored.dtype)} in the first and {_short(there.dtype)} in the "
                    "second; name the type of the result with --dtype"
                )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_configs(folders: Sequence[Path]) -> None:
    """Compare the settings that two models both state and that change what their weights compute.

    Raises:
        CheckpointError: One differs, a model is quantised, or there are no settings.
    """
    first = dict(_settings(folders[0]))
    for folder in folders[1:]:
        for key, value in _settings(folder):
            if key in first and first[key] != value:
                raise CheckpointError(
                    f"{folders[0]} and {folder}: `{key}` is {first[key]!r} in the first config.json and {value!r} in "
                    "the second; merge models of one architecture"
                )


def _settings(folder: Path) -> Iterator[tuple[str, Any]]:
    config = read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise CheckpointError(f"{folder}: is quantised; merge the models it was made from, and quantise the result")
    yield from _leaves(config, "")


def _leaves(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if key in _INESSENTIAL or key.endswith(("dropout", "_pdrop", "_drop")):
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of settings.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: holds no {path.name}; name a model's folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); restore it") from error


def check_tokenizers(folders: Sequence[Path]) -> None:
    """Compare vocabularies; models that bring no tokenizer are taken at their word.

    Raises:
        CheckpointError: A token has another id in another model, or none.
    """
    given = [folder for folder in folders if any((folder / file).is_file() for file in _TOKENIZERS)]
    if len(given) < len(folders):
        logger.info("%d of %d models bring no tokenizer to compare", len(folders) - len(given), len(folders))
    for folder in given[1:]:
        if _same_file(given[0], folder):
            continue
        first, other = (load_tokenizer(place).get_vocab() for place in (given[0], folder))
        for token in sorted(first.keys() | other.keys()):
            if first.get(token) != other.get(token):
                raise CheckpointError(
                    f"{given[0]} and {folder}: their vocabularies differ, token {token!r} is "
                    f"{first.get(token, 'absent')} in the first and {other.get(token, 'absent')} in the second; "
                    "merge models of one tokenizer"
                )


def _same_file(first: Path, other: Path) -> bool:
    """Whether the fast tokenizers are the same to the byte, which is quicker to see than to load both."""
    paths = [folder / "tokenizer.json" for folder in (first, other)]
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()
