"""Reward models on disk: ordinary transformers checkpoints that return the raw reward wherever they are loaded."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trueup.data.templates import TextFormat, infer_format
from trueup.errors import CheckpointError
from trueup.models.reward import RewardModel, find_head

logger = logging.getLogger(__name__)

SIDE_FILE = "trueup.json"
"""Beside the weights: the text format and the provenance."""

PAD_TOKEN = "<|pad|>"


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


def load_tokenizer(name: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Raises:
        CheckpointError: There is none at that place.
    """
    try:
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name}: no tokenizer could be loaded; {_first_line(error)}") from error


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
    options = {"num_labels": 1, "problem_type": "regression", "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(str(base), **options)
        missing = {"score.weight"}
        if from_scratch:
            core = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
        else:
            core, info = AutoModelForSequenceClassification.from_pretrained(
                str(base), config=config, dtype=dtype, output_loading_info=True, use_safetensors=True
            )
            missing = set(info["missing_keys"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{base}: no model could be loaded; {_first_line(error)}") from error
    prepare_core(core, tokenizer)
    name = next(n for n, module in core.named_modules() if module is find_head(core))
    if from_scratch or f"{name}.weight" in missing:
        init_head(find_head(core), generator=generator)
    else:
        logger.info("%s brings a reward head: it is kept", base)
    return RewardModel(_with_lora(core, lora, head=name.split(".")[0]) if lora else core)


def prepare_core(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Explicit pad token, no dropout, no bias in the head, and a raw reward from every loader."""
    ensure_pad_token(core, tokenizer)
    core.config.problem_type = "regression"
    for module in core.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name, value in core.config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(core.config, name, 0.0)
    head = find_head(core)
    if head.bias is not None:
        # A bias would take up all of a sum-to-zero penalty and change no preference.
        head.bias.data.zero_()
        head.bias.requires_grad_(False)


def init_head(head: nn.Linear, *, generator: torch.Generator) -> None:
    """Draw the head's weights from N(0, 1/(d + 1)), so that their norm is about 1."""
    with torch.no_grad():
        values = torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5
        head.weight.copy_(values)


def ensure_pad_token(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give model and tokenizer a pad token that is no other special token.

    transformers and vLLM find a sequence's end as its last token that is not the pad id: with pad = EOS they would
    read the token before the EOS.
    """
    others = {
        tokenizer.eos_token_id,
        tokenizer.bos_token_id,
        tokenizer.sep_token_id,
        tokenizer.cls_token_id,
    } - {None}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in others:
        vocabulary = tokenizer.get_vocab()
        spare = sorted(t for t in vocabulary if "pad" in t.lower() and t[:1] in "<[" and vocabulary[t] not in others)
        if spare:
            tokenizer.pad_token = spare[0]
        else:
            tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
        logger.info("pad token set to %r (id %d)", tokenizer.pad_token, tokenizer.pad_token_id)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id >= core.get_input_embeddings().num_embeddings:
        core.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for config in {id(c): c for c in (core.config, core.config.get_text_config())}.values():
        config.pad_token_id = tokenizer.pad_token_id


def _with_lora(core: PreTrainedModel, lora: LoraConfig, *, head: str) -> PeftModel:
    """An adapter whose checkpoint always holds the reward head."""
    lora.task_type = TaskType.SEQ_CLS
    lora.modules_to_save = sorted({*(lora.modules_to_save or ()), head})
    lora.base_model_name_or_path = core.config._name_or_path
    return get_peft_model(core, lora)


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
    model.pretrained.save_pretrained(folder, state_dict=inner, safe_serialization=True)
    tokenizer.truncation_side = form.truncation_side
    if form.max_length:
        tokenizer.model_max_length = form.max_length
    tokenizer.save_pretrained(folder)
    side = {"format": "trueup.reward_model/1", "text_format": form.to_dict(), **provenance}
    (folder / SIDE_FILE).write_text(json.dumps(side, indent=2, sort_keys=True) + "\n", encoding="utf-8")


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
    options = {"trust_remote_code": trust_remote_code, "dtype": dtype or "auto", "use_safetensors": True}
    try:
        core, missing = _load_core(str(name), options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{name}: no reward model could be loaded; {_first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise CheckpointError(
                f"{name}: the weights are damaged ({_first_line(error)}); restore the file"
            ) from error
        raise
    if missing:
        raise CheckpointError(
            f"{name}: the checkpoint lacks {', '.join(sorted(missing)[:3])}, which would be drawn at random; "
            "it was saved as another kind of model: train it with `trueup train reward` first"
        )
    inner = core.get_base_model() if isinstance(core, PeftModel) else core
    if inner.config.num_labels != 1:
        raise CheckpointError(f"{name}: the model has {inner.config.num_labels} outputs; expected 1, a scalar reward")
    tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    side = _read_side_file(Path(name))
    model = RewardModel(core.to(device).eval())
    return Checkpoint(model, tokenizer, _format_of(str(name), tokenizer, side, inner), side)


def _load_core(name: str, options: dict[str, Any]) -> tuple[PreTrainedModel | PeftModel, set[str]]:
    if (Path(name) / "adapter_config.json").is_file():
        adapter = PeftConfig.from_pretrained(name)
        base_name = str(adapter.base_model_name_or_path)
        config = AutoConfig.from_pretrained(base_name, num_labels=1, trust_remote_code=options["trust_remote_code"])
        base = AutoModelForSequenceClassification.from_pretrained(base_name, config=config, **options)
        tokenizer = load_tokenizer(name)
        prepare_core(base, tokenizer)
        return PeftModel.from_pretrained(base, name), set()
    core, info = AutoModelForSequenceClassification.from_pretrained(name, output_loading_info=True, **options)
    return core, set(info["missing_keys"])


def _read_side_file(folder: Path) -> dict[str, Any]:
    path = folder / SIDE_FILE
    if not path.is_file():
        return {}
    try:
        side = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: not valid JSON ({_first_line(error)}); restore it or save the model anew"
        ) from error
    return dict(side)


def _format_of(
    name: str, tokenizer: PreTrainedTokenizerBase, side: Mapping[str, Any], core: PreTrainedModel
) -> TextFormat:
    if "text_format" in side:
        return TextFormat(**side["text_format"])
    limit = min(getattr(core.config.get_text_config(), "max_position_embeddings", 4096), tokenizer.model_max_length)
    kind = "chat" if tokenizer.chat_template else "plain"
    form = infer_format((), tokenizer, max_length=int(limit), kind="chat" if kind == "chat" else "plain")
    logger.warning("%s does not say how its text was made: assuming %s", name, form)
    return form


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
