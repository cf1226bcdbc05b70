"""Reward models on disk: ordinary transformers checkpoints that return the raw reward wherever they are loaded."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trueup.data.templates import TextFormat, infer_format
from trueup.errors import CheckpointError, first_line
from trueup.models import adapters
from trueup.models.heads.reward import freeze_bias, init_head, prepare_core
from trueup.models.kinds import members_of, refuse_other_kinds
from trueup.models.reward import RewardModel, find_head
from trueup.models.side_files import NO_BASE, SIDE_FILE, is_adapter, read_side_file
from trueup.models.tokenizers import load_tokenizer, refuse_missing_folder

logger = logging.getLogger(__name__)

FORMAT = "trueup.reward_model/1"


@dataclass(frozen=True)
class Checkpoint:
    """A reward model with everything that scoring needs.

    Args:
        model: The reward model.
        tokenizer: Its tokenizer, with an explicit pad token and a chat template.
        form: How text becomes tokens.
        provenance: What the side file says of its making.
    """

    model: RewardModel
    tokenizer: PreTrainedTokenizerBase
    form: TextFormat
    provenance: Mapping[str, Any] = field(default_factory=dict)


def new_reward_model(
    base: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    from_scratch: bool = False,
    lora: LoraConfig | None = None,
    trust_remote_code: bool = False,
) -> RewardModel:
    """Turn a causal model, an encoder or an existing reward model into one to train.

    A missing head is drawn from N(0, 1/(d + 1)) (arXiv 2505.07271, section 2); an existing one is kept. Dropout is
    off, as in the paper: a step in several micro-batches would otherwise see two different models.

    Args:
        base: Directory or hub id of a model, or of a `config.json` alone with `from_scratch`.
        tokenizer: Given a pad token of its own here if it has none.
        generator: Source of the head's initial weights.
        dtype: Weights' type in memory; train in float32 and let autocast compute in bfloat16.
        from_scratch: Draw all weights instead of loading them.
        lora: Train an adapter and the head instead of all weights.
        trust_remote_code: Whether code that comes with the model may run.
    """
    if lora and from_scratch:
        raise CheckpointError(f"{base}: an adapter needs a base with weights; leave out lora or from_scratch")
    refuse_missing_folder(str(base))
    if is_adapter(base):
        raise CheckpointError(f"{base}: {NO_BASE.format(base)}")
    core, missing = _load_or_draw(str(base), dtype, from_scratch=from_scratch, trust_remote_code=trust_remote_code)
    known = core.get_input_embeddings().num_embeddings
    prepare_core(core, tokenizer)
    if lora and core.get_input_embeddings().num_embeddings > known + 1:
        raise CheckpointError(
            f"{base}: has no embeddings for {len(tokenizer) - known} of the tokenizer's tokens, and "
            "an adapter cannot learn them; train without lora, or pass the model's own tokenizer"
        )
    head = find_head(core)
    name = next(n for n, module in core.named_modules() if module is head)
    if f"{name}.weight" in missing:
        init_head(head, generator=generator)
    else:
        logger.info("%s brings a reward head: it is kept", base)
    if lora is None:
        return RewardModel(core)
    adapted = adapters.with_lora(core, lora, fresh={f"{name}.weight", *missing})
    freeze_bias(find_head(core))  # the trainable copy that the adapter made
    return RewardModel(adapted)


def _load_or_draw(
    base: str, dtype: torch.dtype, *, from_scratch: bool, trust_remote_code: bool
) -> tuple[PreTrainedModel, set[str]]:
    """The base as a sequence classifier, and the names of weights that it did not bring."""
    options = {"num_labels": 1, "problem_type": "regression", "trust_remote_code": trust_remote_code}
    try:
        found = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
        classifies = any("ForSequenceClassification" in name for name in found.architectures or ())
        if classifies and found.num_labels != 1 and not from_scratch:
            raise ValueError(f"its head has {found.num_labels} outputs; a reward model has one")
        config = AutoConfig.from_pretrained(base, **options)
        if from_scratch:
            core = AutoModelForSequenceClassification.from_config(
                config, dtype=dtype, trust_remote_code=trust_remote_code
            )
            missing = {name for name, _ in core.named_parameters()}
        else:
            core, info = AutoModelForSequenceClassification.from_pretrained(
                base,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
            )
            missing = set(info["missing_keys"])
            # Masked language models are saved without the pooler that their classifiers have.
            lost = [key for key in missing if key.startswith(f"{core.base_model_prefix}.") and "pooler" not in key]
            if lost:
                raise ValueError(f"its weights lack {', '.join(sorted(lost)[:3])}")
        find_head(core)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{base}: no model could be loaded; {first_line(error)}") from error
    return core, missing


def save_reward_model(
    folder: str | Path,
    model: RewardModel,
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
    # An adapter leaves out embeddings, even those that grew: the only new row is the pad token's, which nothing reads.
    options = {"save_embedding_layers": False} if isinstance(model.pretrained, PeftModel) else {}
    model.pretrained.save_pretrained(folder, state_dict=inner, safe_serialization=True, **options)
    side = {**provenance, "format": FORMAT, "pooling": "last_token" if model.causal else "encoder"}
    if model.members > 1:
        side["ensemble"] = {**provenance.get("ensemble", {}), "size": model.members}
    write_beside(folder, tokenizer=tokenizer, form=form, side=side, causal=model.causal)


def write_beside(
    folder: Path, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, side: Mapping[str, Any], causal: bool
) -> None:
    """Write the tokenizer, with the format's limits, and the side file beside a model's weights."""
    settings: dict[str, Any] = {"truncation_side": form.truncation_side, "padding_side": "right"}
    if form.max_length:
        settings["model_max_length"] = form.max_length
    if causal:  # GPT-2 would embed another tokenizer's token types as if they were words
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    for name, value in settings.items():
        setattr(tokenizer, name, value)
        tokenizer.init_kwargs[name] = value  # transformers saves only what it finds here
    tokenizer.save_pretrained(folder)
    whole = {**side, "text_format": form.to_dict(), "pad_token": tokenizer.pad_token}
    (folder / SIDE_FILE).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_reward_model(
    name: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a reward model for scoring, ours or anyone's, full weights or adapter.

    Raises:
        CheckpointError: No model is there, files are damaged, it has more than one output, or the checkpoint has no
            reward head (a peer would draw one at random and score with it).
    """
    refuse_missing_folder(str(name))
    side = read_side_file(Path(name))
    outputs = members_of(side)
    options = {"trust_remote_code": trust_remote_code, "dtype": dtype, "use_safetensors": True}
    try:
        core, info = _load_core(str(name), options, outputs=outputs)
        refuse_other_kinds(str(name), *info)
        inner = core.get_base_model() if isinstance(core, PeftModel) else core
        find_head(inner, outputs=outputs)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{name}: no reward model could be loaded; {first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise CheckpointError(f"{name}: the weights are damaged ({first_line(error)}); restore the file") from error
        raise
    tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    model = RewardModel(core.to(device).eval(), members=outputs)
    return Checkpoint(model, tokenizer, format_of(str(name), tokenizer, side, inner), side)


def _load_core(
    name: str, options: Mapping[str, Any], *, outputs: int
) -> tuple[PreTrainedModel | PeftModel, tuple[set[str], set[str]]]:
    """The model, and the names of weights that are missing from the checkpoint or have no place in the model."""
    if is_adapter(name):
        # Trained on a base in float32, whatever type the base was saved in.
        whole = {**options, "dtype": options["dtype"] or torch.float32}
        base, missing = adapters.load_base(name, whole, outputs=outputs)
        refuse_other_kinds(name, missing, set())
        prepare_core(base, load_tokenizer(name, trust_remote_code=options["trust_remote_code"]), outputs=outputs)
        return PeftModel.from_pretrained(base, name), (set(), set())
    core, info = AutoModelForSequenceClassification.from_pretrained(
        name, output_loading_info=True, **{**options, "dtype": options["dtype"] or "auto"}
    )
    return core, (set(info["missing_keys"]), set(info["unexpected_keys"]))


def format_of(
    name: str, tokenizer: PreTrainedTokenizerBase, side: Mapping[str, Any], core: PreTrainedModel
) -> TextFormat:
    """The stored text format; a guess, which the log states, for models that others have trained."""
    if "text_format" in side:
        return TextFormat(**side["text_format"])
    positions = getattr(core.config.get_text_config(), "max_position_embeddings", None) or 4096
    limit = min(positions, tokenizer.model_max_length)
    kind = "chat" if tokenizer.chat_template else "plain"
    form = infer_format((), tokenizer, max_length=int(limit), kind="chat" if kind == "chat" else "plain")
    logger.warning("%s does not say how its text was made: assuming %s", name, form)
    return form
