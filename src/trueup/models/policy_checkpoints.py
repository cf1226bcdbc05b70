"""Policies on disk: ordinary causal language models, and beside them how text became tokens."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, TaskType
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, first_line
from trueup.models.adapters import adapt
from trueup.models.checkpoints import format_of, write_beside
from trueup.models.heads.reward import switch_off_dropout
from trueup.models.policy import PolicyModel
from trueup.models.side_files import NO_BASE, is_adapter, read_side_file
from trueup.models.tokenizers import load_tokenizer, refuse_missing_folder

logger = logging.getLogger(__name__)

FORMAT = "trueup.policy/1"


@dataclass(frozen=True)
class PolicyCheckpoint:
    """A policy with everything that sampling and training on need.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        form: How text becomes tokens.
        provenance: What the side file says of its making.
    """

    model: PolicyModel
    tokenizer: PreTrainedTokenizerBase
    form: TextFormat
    provenance: Mapping[str, Any] = field(default_factory=dict)


def new_policy(
    base: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype = torch.float32,
    from_scratch: bool = False,
    lora: LoraConfig | None = None,
    trust_remote_code: bool = False,
) -> PolicyModel:
    """A causal language model to train; dropout is off, so that a step in several passes sees one model.

    Args:
        base: Directory or hub id of a causal model, or of a `config.json` alone with `from_scratch`.
        tokenizer: Given a pad token here if it has none (the EOS: pads are told from text by position, never by id).
        dtype: Weights' type in memory; train in float32 and let autocast compute in bfloat16.
        from_scratch: Draw all weights, from torch's global generator, instead of loading them.
        lora: Train an adapter instead of all weights.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        CheckpointError: There is no causal model at that place.
    """
    if lora and from_scratch:
        raise CheckpointError(f"{base}: an adapter needs a base with weights; leave out lora or from_scratch")
    refuse_missing_folder(str(base))
    if is_adapter(base):
        raise CheckpointError(f"{base}: {NO_BASE.format(base)}")
    try:
        if from_scratch:
            config = AutoConfig.from_pretrained(str(base), trust_remote_code=trust_remote_code)
            core = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
        else:
            core = _load(str(base), dtype=dtype, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{base}: no causal language model could be loaded; {first_line(error)}") from error
    _fit_tokenizer(core, tokenizer)
    switch_off_dropout(core)
    if lora is None:
        return PolicyModel(core)
    lora = copy.deepcopy(lora)  # peft writes the layers it finds into it
    lora.task_type = TaskType.CAUSAL_LM
    return PolicyModel(adapt(core, lora, base=base))


def _fit_tokenizer(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.eos_token_id is None:
        raise CheckpointError("the tokenizer has no end-of-sequence token, so replies would never end; give it one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    known, needed = core.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values()) + 1
    if needed > known:
        logger.info("embeddings grow from %d to %d tokens, as the tokenizer has them", known, needed)
        core.resize_token_embeddings(needed, mean_resizing=False)
    for config in (core.config.get_text_config(), core.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        ends = config.eos_token_id
        if ends is None or (tokenizer.eos_token_id != ends and not isinstance(ends, list)):
            config.eos_token_id = tokenizer.eos_token_id


def _load(name: str, *, dtype: torch.dtype | None, trust_remote_code: bool) -> PreTrainedModel:
    core, info = AutoModelForCausalLM.from_pretrained(
        name,
        dtype=dtype or "auto",
        output_loading_info=True,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )
    if info["missing_keys"]:
        raise ValueError(
            f"its weights lack {', '.join(sorted(info['missing_keys'])[:3])}, which would be drawn at random"
        )
    return core


def save_policy(
    folder: str | Path,
    model: PolicyModel,
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    provenance: Mapping[str, Any],
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write weights, configuration, tokenizer and side file into a folder.

    Args:
        folder: Where to; callers give a temporary place and move it, so that no half checkpoint is ever seen.
        model: What to save.
        tokenizer: Its tokenizer.
        form: How text becomes tokens.
        provenance: Plain values for the side file.
        state: The weights, where they were gathered from several devices; names as in the wrapping module.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inner = {name.removeprefix("pretrained."): tensor for name, tensor in state.items()} if state else None
    model.pretrained.save_pretrained(folder, state_dict=inner, safe_serialization=True)
    write_beside(folder, tokenizer=tokenizer, form=form, side={**provenance, "format": FORMAT}, causal=True)


def load_policy_checkpoint(
    name: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> PolicyCheckpoint:
    """Load a policy, ours or anyone's, full weights or adapter.

    Raises:
        CheckpointError: No causal model is there, or files are damaged.
    """
    refuse_missing_folder(str(name))
    try:
        core = _load_any(str(name), dtype=dtype, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{name}: no causal language model could be loaded; {first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise CheckpointError(f"{name}: the weights are damaged ({first_line(error)}); restore the file") from error
        raise
    tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    inner = core.get_base_model() if isinstance(core, PeftModel) else core
    _fit_tokenizer(inner, tokenizer)
    switch_off_dropout(inner)
    side = read_side_file(Path(name))
    form = format_of(str(name), tokenizer, side, inner)
    return PolicyCheckpoint(PolicyModel(core.to(device).eval()), tokenizer, form, side)


def _load_any(name: str, *, dtype: torch.dtype | None, trust_remote_code: bool) -> PreTrainedModel | PeftModel:
    if not is_adapter(name):
        return _load(name, dtype=dtype, trust_remote_code=trust_remote_code)
    base = str(PeftConfig.from_pretrained(name).base_model_name_or_path)
    # Trained on a base in float32, whatever type the base was saved in.
    core = _load(base, dtype=dtype or torch.float32, trust_remote_code=trust_remote_code)
    return PeftModel.from_pretrained(core, name)
