"""The reward head, and what a classifier needs before it is trained as a reward model."""

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trueup.models.padding import ensure_pad_token
from trueup.models.reward import find_head


def prepare_core(core: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, outputs: int = 1) -> None:
    """Explicit pad token, no dropout, no bias in the head, and a raw reward from every loader."""
    ensure_pad_token(core, tokenizer)
    core.config.problem_type = "regression"
    switch_off_dropout(core)
    freeze_bias(find_head(core, outputs=outputs))


def switch_off_dropout(core: PreTrainedModel) -> None:
    """A step in several passes would otherwise see several models."""
    for module in core.modules():
        # Attention layers keep their own copy of the configured rate.
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or (name == "p" and "Dropout" in type(module).__name__)):
                setattr(module, name, 0.0)
    for name, value in core.config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(core.config, name, 0.0)


def freeze_bias(head: nn.Linear) -> None:
    """A bias would take up all of a sum-to-zero penalty and change no preference."""
    if head.bias is not None:
        head.bias.data.zero_()
        head.bias.requires_grad_(False)


def init_head(head: nn.Linear, *, generator: torch.Generator) -> None:
    """Draw the head's weights from N(0, 1/(d + 1)), so that their norm is about 1."""
    with torch.no_grad():
        values = torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5
        head.weight.copy_(values)
