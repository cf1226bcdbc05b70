"""Members that share a trunk, on disk: each an ordinary PEFT adapter with its head, side by side in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, first_line
from trueup.models import adapters
from trueup.models.checkpoints import FORMAT, Checkpoint, format_of, write_beside
from trueup.models.heads.reward import prepare_core
from trueup.models.kinds import members_of, refuse_other_kinds
from trueup.models.lora_members import LoraEnsemble, assemble
from trueup.models.side_files import read_side_file as read_side
from trueup.models.tokenizers import load_tokenizer

KIND = "lora"
"""What `trueup.json` calls such an ensemble."""

_PREFIX = "base_model.model."


def member_folders(folder: str | Path, members: int) -> list[Path]:
    """Where each member lies."""
    return [Path(folder) / "members" / str(number) for number in range(members)]


def save_lora_members(
    folder: str | Path,
    model: LoraEnsemble,
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    provenance: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """Write each member as a PEFT adapter that loads alone, and the side file of the whole; returns their folders.

    Args:
        folder: Where to.
        model: What to save.
        tokenizer: Its tokenizer.
        form: How text becomes tokens.
        provenance: Plain values for the side files.
        state: The weights, where they were gathered from several devices; names as in the wrapping module.
    """
    weights = {name.removeprefix("pretrained."): tensor for name, tensor in (state or model.state_dict()).items()}
    side = {**provenance, "format": FORMAT, "pooling": "last_token"}
    alone = {name: value for name, value in side.items() if name != "ensemble"}
    folders = member_folders(folder, model.members)
    for number, place in enumerate(folders):
        place.mkdir(parents=True, exist_ok=True)
        model.lora.save_pretrained(str(place))
        save_file(_member(model, weights, number), place / adapters.WEIGHTS, metadata={"format": "pt"})
        write_beside(place, tokenizer=tokenizer, form=form, side=alone, causal=True)
    own = {"size": model.members, "kind": KIND, "layers": model.layers}
    side["ensemble"] = {**provenance.get("ensemble", {}), **own}
    write_beside(Path(folder), tokenizer=tokenizer, form=form, side=side, causal=True)
    return folders


def _member(model: LoraEnsemble, weights: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One member's weights under PEFT's names."""
    found = {"score.weight": weights["score.weight"][number : number + 1]}
    for name in model.adapted():
        found[f"{name}.lora_A.weight"] = weights[f"{name}.down"][number]
        found[f"{name}.lora_B.weight"] = weights[f"{name}.up"][number]
    return {_PREFIX + name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}


def read_members(model: LoraEnsemble, folder: str | Path) -> None:
    """Read all members' weights from a folder that `save_lora_members` wrote.

    Raises:
        CheckpointError: Files are missing or damaged, or belong to other members.
    """
    head = model.head.weight
    for number, place in enumerate(member_folders(folder, model.members)):
        try:
            saved = load_file(place / adapters.WEIGHTS)
            with torch.no_grad():
                head[number : number + 1].copy_(saved.pop(f"{_PREFIX}score.weight"))
                for name, module in model.adapted().items():
                    module.down[number].copy_(saved.pop(f"{_PREFIX}{name}.lora_A.weight"))
                    module.up[number].copy_(saved.pop(f"{_PREFIX}{name}.lora_B.weight"))
            if saved:
                raise ValueError(f"{sorted(saved)[0]} has no place in the model")
        except Exception as error:  # a damaged file may fail in any way
            reason = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
            raise CheckpointError(
                f"{place}: the weights cannot be read ({reason}); restore them, or resume from an earlier checkpoint"
            ) from error


def load_lora_members(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load members that share a trunk, to be computed together.

    Raises:
        CheckpointError: Files are missing or damaged, or the base is not where it was.
    """
    folder = Path(folder)
    side, first = read_side(folder), str(folder / "members" / "0")
    options = {"trust_remote_code": trust_remote_code, "dtype": dtype or torch.float32, "use_safetensors": True}
    try:
        members, layers = members_of(side), int(side["ensemble"]["layers"])
        base, missing = adapters.load_base(first, options)
        refuse_other_kinds(first, missing, set())
        tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        prepare_core(base, tokenizer)
        lora = PeftConfig.from_pretrained(first)
        model = assemble(base, members, layers=layers, lora=lora, generator=torch.Generator())
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: the members cannot be loaded; {first_line(error)}") from error
    read_members(model, folder)
    model.to(device).eval().settle()
    return Checkpoint(model, tokenizer, format_of(str(folder), tokenizer, side, model.core), side)
