"""Weights of a run's own checkpoints."""

from pathlib import Path

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from trueup.errors import CheckpointError
from trueup.models.branch_model import BranchModel


def load_weights(model: BranchModel, folder: Path) -> None:
    """Read a checkpoint's weights into a model of the same shape.

    Raises:
        CheckpointError: Files are missing or damaged, or belong to another model.
    """
    inner = model.pretrained
    adapter = isinstance(inner, PeftModel)
    files = sorted(folder.glob("adapter_model*.safetensors" if adapter else "model*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: holds no weights; delete this checkpoint to resume from an earlier one")
    try:
        state = {name: tensor for file in files for name, tensor in load_file(file).items()}
        if adapter:
            set_peft_model_state_dict(inner, state)
        else:
            tied = set(getattr(inner, "all_tied_weights_keys", None) or ())
            missing, unexpected = inner.load_state_dict(state, strict=False)
            if set(missing) - tied or unexpected:
                raise CheckpointError(f"{folder}: weights do not fit: {sorted({*missing, *unexpected} - tied)[:4]}")
    except CheckpointError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{folder}: the weights cannot be read ({first}); delete this checkpoint to resume from an earlier one"
        ) from error
