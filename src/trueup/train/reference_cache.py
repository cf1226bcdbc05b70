"""Log-probabilities under models that are not trained: computed once, kept on disk by content, read ever after.

The key of an entry is a hash of the model (its weights, configuration and code), of the token ids (in which text,
template and truncation show) and of the arithmetic. What does not match its key, or is damaged, is computed again.
"""

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from trueup.data.branches import BranchRow
from trueup.errors import NonFiniteError, OutputError
from trueup.files import atomic_write
from trueup.models.policy import PolicyModel
from trueup.train.dataset import BranchDataset
from trueup.train.known_rows import RowValues

logger = logging.getLogger(__name__)

Logprobs = Callable[[Sequence[BranchRow]], list[Tensor]]
"""Log-probabilities of each row's response tokens, in nats, float32, on the CPU: a `Reference`'s `logprobs`."""

# As in training on a CPU, where activations that fit the cache are computed faster and take less memory.
_CPU_SLOTS = 2048
_CHUNK = 1024
_NAME = "logprob"
# Of a configuration: what says where a model comes from or how it is run, not what it computes.
_NO_MATTER = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Processes that compute one entry together.

    Args:
        rank: Number of this one.
        world: How many there are.
        keeps: Whether this one writes what was found.
    """

    rank: int = 0
    world: int = 1
    keeps: bool = True


def pass_budget(token_budget: int, device: torch.device) -> int:
    """Token slots of one pass of a model that is not trained."""
    return min(token_budget, _CPU_SLOTS) if device.type == "cpu" else token_budget


@torch.no_grad()
def model_fingerprint(model: PolicyModel, *, adapter: bool) -> str:
    """SHA-256 of all that decides a model's log-probabilities.

    A base is the same alone and under an adapter that is switched off.

    Args:
        model: The model, with whole weights.
        adapter: Whether an adapter that the model has counts.
    """
    core, pretrained = model.core, model.pretrained
    digest = hashlib.sha256(json.dumps(_settings(core.config), sort_keys=True, default=str).encode())
    digest.update(f"{type(core).__module__}.{type(core).__qualname__} {transformers.__version__}".encode())
    adapted = adapter and isinstance(pretrained, PeftModel)
    if adapted:
        settings = {name: config.to_dict() for name, config in pretrained.peft_config.items()}
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in core.state_dict().items():
        if adapted or not _is_adapter(name):
            plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
            digest.update(f"|{plain} {tensor.dtype} {tuple(tensor.shape)}|".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _settings(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _NO_MATTER}


def _is_adapter(name: str) -> bool:
    return any(part.startswith("lora_") or part == "modules_to_save" for part in name.split("."))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def cached_logprobs(
    dataset: BranchDataset,
    compute: Logprobs,
    *,
    model: str,
    arithmetic: str,
    folder: Path | None,
    sharing: Sharing | None = None,
) -> RowValues:
    """Log-probabilities of all response tokens of a data set, one tensor a row.

    Every process of a run must call it; where one of them has no entry, all compute.

    Args:
        dataset: The rows.
        compute: What an entry is made of.
        model: Fingerprint of the model that computes.
        arithmetic: Type and device of the computation, in words.
        folder: Where entries are kept; None to keep nothing.
        sharing: The processes that compute together.

    Raises:
        NonFiniteError: The model gives NaN or an infinity; the row is named.
    """
    sharing = sharing or Sharing()
    key, starts = _key(dataset, model, arithmetic)
    path = folder / f"{key}.safetensors" if folder is not None else None
    known = _load(path, key=key, count=starts[-1]) if path is not None else None
    found = [known is not None]
    everywhere = all(gather_object(found) if sharing.world > 1 else found)
    if known is not None and everywhere:
        logger.info("the reference was asked about these %d rows before: %s", len(dataset), path)
        return RowValues(known, starts)
    begun = time.perf_counter()
    flat = _computed(dataset, compute, sharing)
    if path is not None and sharing.keeps:
        _keep(flat, path, key=key)
    logger.info("log-probabilities of %d rows took %.1f s", len(dataset), time.perf_counter() - begun)
    return RowValues(flat, starts)


def _key(dataset: BranchDataset, model: str, arithmetic: str) -> tuple[str, list[int]]:
    """The entry's key, and where each row's tokens begin in it."""
    digest = hashlib.sha256(f"{model} {arithmetic}".encode())
    starts = [0]
    for i in range(len(dataset)):
        row = dataset[i]
        digest.update(np.asarray([row.prompt_length, len(row.branch_lengths), *row.branch_lengths], "<i8").tobytes())
        digest.update(row.tokens.astype("<i8").tobytes())
        starts.append(starts[-1] + sum(row.branch_lengths))
    return digest.hexdigest(), starts


def _computed(dataset: BranchDataset, compute: Logprobs, sharing: Sharing) -> Tensor:
    mine = range(sharing.rank, len(dataset), sharing.world)
    found: list[tuple[int, Tensor]] = []
    with tqdm(total=len(mine), desc="reference", unit="row", disable=sharing.rank > 0) as bar:
        for numbers in _chunks(mine):
            rows = [dataset[i] for i in numbers]
            found += zip(numbers, (values.float() for values in compute(rows)), strict=True)
            bar.update(len(rows))
    if sharing.world > 1:
        found = gather_object(found)
    ordered = [values for _, values in sorted(found, key=lambda one: one[0])]
    wrong = [i for i, values in enumerate(ordered) if not bool(values.isfinite().all())]
    if wrong:
        row = dataset.describe(dataset[wrong[0]].index)
        raise NonFiniteError(
            f"the reference gives {len(wrong)} of {len(dataset)} rows a log-probability that is not finite, the first "
            f"at {row['row']}; use another reference, or leave these rows out"
        )
    return torch.cat(ordered) if ordered else torch.zeros(0)


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _CHUNK):
        yield numbers[start : start + _CHUNK]


def _load(path: Path, *, key: str, count: int) -> Tensor | None:
    """An entry, or None where it is absent or not what its name says."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said, values = file.metadata() or {}, file.get_tensor(_NAME)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        problem = f"cannot be read ({(str(error).splitlines() or [''])[0]})"
    else:
        problem = _mismatch(said, values, key=key, count=count)
    if problem:
        logger.warning("%s: %s; the log-probabilities are computed again", path, problem)
        return None
    return values


def _mismatch(said: dict[str, str], values: Tensor, *, key: str, count: int) -> str:
    """What is wrong with an entry; nothing where it is empty."""
    if said.get("key") != key:
        return "was made of another model or other rows"
    if values.dtype != torch.float32 or values.shape != (count,):
        return f"holds {tuple(values.shape)} values of {values.dtype}, not ({count},) of torch.float32"
    return "" if said.get("crc32") == _checksum(values) else "is damaged"


def _checksum(values: Tensor) -> str:
    return f"{zlib.crc32(_bytes(values)):08x}"


def _keep(values: Tensor, path: Path, *, key: str) -> None:
    try:
        with atomic_write(path) as handle:
            handle.write(save({_NAME: values}, metadata={"key": key, "crc32": _checksum(values)}))
    except OutputError as error:
        logger.warning("%s (the next start computes these log-probabilities again)", error)
