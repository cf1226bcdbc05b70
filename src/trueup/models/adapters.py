"""Low-rank adapters of reward models: the head is always trained and saved with them."""

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, TaskType, get_peft_model
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from trueup.errors import CheckpointError
from trueup.models.side_files import ADAPTER_CONFIG

WEIGHTS = "adapter_model.safetensors"


def with_lora(core: PreTrainedModel, lora: LoraConfig, *, fresh: Collection[str]) -> PeftModel:
    """An adapter whose checkpoint holds every module that the base lacks.

    Args:
        core: The base with its head.
        lora: Which layers are adapted, and how.
        fresh: Names of the head's weights and of others that the base did not bring; their modules are trained whole.
    """
    trunk = f"{core.base_model_prefix}."
    whole = {key.rpartition(".")[0] if key.startswith(trunk) else key.partition(".")[0] for key in fresh}
    lora = copy.deepcopy(lora)  # peft writes the layers it finds into it
    lora.task_type = TaskType.SEQ_CLS
    lora.modules_to_save = sorted({*(lora.modules_to_save or ()), *whole})
    return adapt(core, lora, base=core.config._name_or_path)


def adapt(core: PreTrainedModel, lora: LoraConfig, *, base: str | Path) -> PeftModel:
    """A new adapter, which names its base by a path that holds in any working directory."""
    adapted: PeftModel = get_peft_model(core, lora)
    # peft puts the name by which the base was loaded here, whatever the configuration said
    known = str(Path(base).resolve()) if Path(base).is_dir() else str(base)
    adapted.peft_config["default"].base_model_name_or_path = known
    return adapted


def merge(adapted: PeftModel) -> PreTrainedModel:
    """The base with the adapter's change worked into its weights, and the trained head."""
    return adapted.merge_and_unload()


def load_base(folder: str, options: Mapping[str, Any], *, outputs: int = 1) -> tuple[PreTrainedModel, set[str]]:
    """The model that an adapter was trained on, and the names of weights that neither of the two has.

    Raises:
        CheckpointError: The base or the adapter's weights are not where they should be.
    """
    base_name = str(PeftConfig.from_pretrained(folder).base_model_name_or_path)
    remote = options["trust_remote_code"]
    try:
        config = AutoConfig.from_pretrained(
            base_name, num_labels=outputs, problem_type="regression", trust_remote_code=remote
        )
        base, info = AutoModelForSequenceClassification.from_pretrained(
            base_name,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=outputs > 1,  # the adapter brings the heads, whatever head the base has
            **options,
        )
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{folder}: its base model {base_name} cannot be loaded ({reason}); put it back there, or set "
            f"base_model_name_or_path in {ADAPTER_CONFIG}"
        ) from error
    if not (Path(folder) / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: holds no {WEIGHTS}; save the adapter as safetensors")
    with safe_open(Path(folder) / WEIGHTS, framework="pt") as weights:
        given = {name.removeprefix("base_model.model.") for name in weights.keys()}  # noqa: SIM118 - no mapping
    return base, set(info["missing_keys"]) - given
