"""An anchor's state on disk, beside the checkpoint it belongs to: safetensors for weights, JSON for what they mean."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from trueup.anchors.base import Anchor, AnchorState, Weights
from trueup.errors import CheckpointError, RecipeError
from trueup.files import move_into_place, output_errors, write_text

FOLDER = "anchor"
"""Name within a checkpoint."""

FORMAT = "trueup.anchor/1"

_CURE = "delete this checkpoint to resume from an earlier one"


def save_state(checkpoint: Path, anchor: Anchor, state: AnchorState, *, step: int) -> None:
    """Write the state after a step into a checkpoint's folder, whole or not at all.

    Raises:
        OutputError: There is no room, no permission, or something is in the way.
    """
    staging = checkpoint / f".partial-{FOLDER}"
    with output_errors(checkpoint / FOLDER):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            tensors = {name: tensor.contiguous() for name, tensor in state.to_tensors().items()}
            save_file(tensors, staging / "state.safetensors")
            write_text(staging / "state.json", json.dumps({"step": step, **_record(anchor)}, indent=1) + "\n")
            move_into_place(staging, checkpoint / FOLDER)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def load_state(checkpoint: Path, anchor: Anchor, *, weights: Weights, step: int) -> AnchorState:
    """Read the state that `save_state` wrote, onto the live weights' devices.

    Args:
        checkpoint: The checkpoint's folder.
        anchor: Must be the one that wrote the state, with the same settings.
        weights: The live model's, whose names and shapes the state must have.
        step: Steps that the resumed run has done.

    Raises:
        CheckpointError: Files are missing or damaged, or belong to another model or step.
        RecipeError: It is another anchor, or has other settings.
    """
    folder = checkpoint / FOLDER
    try:
        record = dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))
        state = AnchorState.from_tensors(load_file(folder / "state.safetensors"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{checkpoint}: lacks the anchor's state; {_CURE}") from error
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{folder}: the anchor's state cannot be read ({first}); {_CURE}") from error
    written, expected = record.pop("step", None), json.loads(json.dumps(_record(anchor)))
    if record != expected:
        raise RecipeError(f"{folder}: written by the anchor {record}, not {expected}; resume with the same anchor")
    if written != step:
        raise CheckpointError(f"{folder}: belongs to step {written}, and the run stands at {step}; name its checkpoint")
    return AnchorState({role: _placed(folder, own, weights) for role, own in state.copies.items()})


def _placed(folder: Path, own: Weights, weights: Weights) -> Weights:
    wrong = sorted(own.keys() ^ weights.keys()) or [n for n in own if own[n].shape != weights[n].shape]
    if wrong:
        raise CheckpointError(
            f"{folder}: the anchor's state does not fit the model: {wrong[:4]}; resume the same model"
        )
    return {name: own[name].to(weights[name].device) for name in weights}


def _record(anchor: Anchor) -> dict[str, Any]:
    given = {field.name: getattr(anchor, field.name) for field in _fields(anchor)}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {"format": FORMAT, "anchor": type(anchor).__name__, "settings": settings}


def _fields(anchor: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(anchor) if dataclasses.is_dataclass(anchor) else ()
