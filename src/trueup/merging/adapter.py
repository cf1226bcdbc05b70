"""An adapter worked into the base it was trained on: a whole model, which anything loads and trains on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, TaskType

from trueup.errors import CheckpointError, first_line
from trueup.files import written_whole
from trueup.merging.merge import RECORD
from trueup.merging.settings import write_json
from trueup.models.adapters import merge
from trueup.models.checkpoints import load_reward_model, save_reward_model
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import load_policy_checkpoint, save_policy
from trueup.models.reward import RewardModel
from trueup.models.side_files import ADAPTER_CONFIG, folder_of_model, is_adapter
from trueup.models.tokenizers import refuse_missing_folder


@dataclass(frozen=True)
class MergedAdapter:
    """A whole model made from an adapter.

    Args:
        output: Its folder.
        base: What the adapter was trained on.
        parameters: How many numbers the model has.
    """

    output: Path
    base: str
    parameters: int

    def summary(self) -> str:
        """One line."""
        return f"adapter merged into {self.base} ({self.parameters:,} parameters): {self.output}"


def adapter_folder(name: str | Path) -> Path:
    """The folder of an adapter; of a run directory, its `model`.

    Raises:
        CheckpointError: There is none, or it is a whole model already.
    """
    refuse_missing_folder(str(name))
    if not Path(name).is_dir():
        raise CheckpointError(
            f"{name}: there is no such folder; an adapter of the hub is downloaded first (hf download)"
        )
    folder = folder_of_model(name)
    if is_adapter(folder):
        return folder
    raise CheckpointError(f"{name}: holds no {ADAPTER_CONFIG}, so there is no adapter to merge; name its folder")


def write_merged(
    adapter: str | Path,
    output: Path,
    *,
    dtype: torch.dtype = torch.float32,
    record: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> MergedAdapter:
    """Write the whole model into a new folder, which appears whole or not at all; one that is there is replaced.

    Products are made in float32 and the sums rounded once.

    Args:
        adapter: Folder of a policy's or a reward model's adapter, ours or any of PEFT's, or a run directory.
        output: The folder to write.
        dtype: Type of the weights on disk.
        record: What `merge.json` says besides.
        trust_remote_code: Whether code that comes with the base may run.

    Raises:
        CheckpointError: The adapter or its base is missing or damaged, or is neither policy nor reward model.
        OutputError: The folder cannot be written.
    """
    folder = adapter_folder(adapter)
    base, task = _described(folder)
    save = _save_reward_model if task == TaskType.SEQ_CLS else _save_policy
    with written_whole(output) as temporary:
        parameters = save(temporary, folder, dtype=dtype, trust_remote_code=trust_remote_code)
        write_json(temporary / RECORD, {**(record or {}), "adapter": str(folder), "base": base})
    return MergedAdapter(output, base, parameters)


def _described(folder: Path) -> tuple[str, str]:
    """The base of an adapter and what it is for."""
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: cannot be read ({first_line(error)}); restore it") from error
    if config.task_type not in (TaskType.CAUSAL_LM, TaskType.SEQ_CLS):
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG}: task_type is {config.task_type!r}; {TaskType.CAUSAL_LM.value} (a policy) and "
            f"{TaskType.SEQ_CLS.value} (a reward model) can be merged"
        )
    return str(config.base_model_name_or_path), str(config.task_type)


def _save_policy(folder: Path, adapter: Path, *, dtype: torch.dtype, trust_remote_code: bool) -> int:
    found = load_policy_checkpoint(adapter, dtype=torch.float32, trust_remote_code=trust_remote_code)
    assert isinstance(found.model.pretrained, PeftModel)
    whole = PolicyModel(merge(found.model.pretrained).to(dtype))
    save_policy(folder, whole, tokenizer=found.tokenizer, form=found.form, provenance=found.provenance)
    return sum(one.numel() for one in whole.parameters())


def _save_reward_model(folder: Path, adapter: Path, *, dtype: torch.dtype, trust_remote_code: bool) -> int:
    found = load_reward_model(adapter, dtype=torch.float32, trust_remote_code=trust_remote_code)
    assert isinstance(found.model.pretrained, PeftModel)
    whole = RewardModel(merge(found.model.pretrained).to(dtype), members=found.model.members)
    save_reward_model(folder, whole, tokenizer=found.tokenizer, form=found.form, provenance=found.provenance)
    return sum(one.numel() for one in whole.parameters())
