"""Which models may share a prompt's computation between branches, and how."""

import logging
from typing import Any, Literal

from transformers import AutoModelForCausalLM, PreTrainedModel

logger = logging.getLogger(__name__)

Sharing = Literal["trees", "flex", "mask", "separate"]
"""How branches are computed; the first three share the prompt. See `trueup.models.attention`."""

_SHAREABLE_LAYERS = frozenset({"full_attention", "sliding_attention"})
# Their attention reads positions or state from somewhere else than `position_ids`.
_RECURRENT = ("mamba", "rwkv", "jamba", "recurrent_gemma", "zamba", "bamba", "falcon_h1", "xlstm", "lfm2")


def windows_of(config: Any) -> tuple[int, ...]:
    """Sliding windows that a model's layers use, in tokens."""
    window = getattr(config, "sliding_window", None)
    if not window:
        return ()
    types = getattr(config, "layer_types", None)
    in_use = "sliding_attention" in types if types else getattr(config, "use_sliding_window", True)
    return (int(window),) if in_use else ()


def is_causal(model: PreTrainedModel) -> bool:
    """Whether a sequence classifier reads the last token of a causal trunk."""
    config = model.config.get_text_config()
    bidirectional = not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False)
    known = type(model.config) in AutoModelForCausalLM._model_mapping and not getattr(
        config, "is_encoder_decoder", False
    )
    return known and hasattr(model, "score") and not bidirectional


def obstacle(model: PreTrainedModel, *, causal: bool) -> str | None:
    """Why a model cannot share prompts between branches, or None if it can."""
    config = model.config.get_text_config()
    if not causal:
        return "it is not causal: every token sees the whole sequence"
    if any(config.model_type.startswith(name) for name in _RECURRENT):
        return "it is recurrent"
    other = set(getattr(config, "layer_types", None) or ()) - _SHAREABLE_LAYERS
    if other:
        return f"it has layers of type {', '.join(sorted(other))}"
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", "absolute") not in (
        "absolute",
        None,
    ):
        return "its positions are not set by position ids"
    return None


def choose(model: PreTrainedModel, *, flex: bool, causal: bool) -> tuple[Sharing, str | None]:
    """The best way to compute a model's branches, and why not a better one.

    Args:
        model: A model of transformers.
        flex: Whether FlexAttention may be used (CUDA).
        causal: Whether each token sees only what comes before it.
    """
    reason = obstacle(model, causal=causal)
    if reason is not None:
        return "separate", reason
    if model._supports_attention_backend:
        capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
        return ("flex" if flex and model._supports_flex_attn and not capped else "trees"), None
    if model._supports_sdpa:
        return "mask", "its attention does not go through the attention interface"
    return "separate", "it supports no attention with a mask of its own"


def describe(sharing: Sharing, reason: str | None) -> str:
    """One line for the log."""
    if sharing == "separate":
        return f"prompts are not shared between responses, since {reason}; rows are sorted by length instead"
    note = f" ({reason})" if reason else ""
    return f"each prompt is computed once for all its responses, by {sharing} attention{note}"
