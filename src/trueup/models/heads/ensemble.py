"""An ensemble of reward heads on one trunk: k linear heads, each drawn and trained on its own."""

import logging

import torch
from torch import nn
from transformers import PreTrainedModel

from trueup.errors import RecipeError
from trueup.models.heads.reward import freeze_bias, init_head
from trueup.models.reward import RewardModel, find_head

logger = logging.getLogger(__name__)


def with_heads(model: RewardModel, members: int, *, generator: torch.Generator) -> RewardModel:
    """The same trunk under several new heads, each drawn from N(0, 1/(d + 1)) independently of the others.

    The model itself is changed: its head gives way, also one that the base brought along.

    Args:
        model: A reward model with one head, with or without an adapter.
        members: Number of heads.
        generator: Source of their weights.

    Raises:
        RecipeError: The number is none of an ensemble, or the model is one already.
    """
    if members < 2 or model.members != 1:
        raise RecipeError(f"{members} heads cannot take the place of {model.members}; take a model with one head")
    old = model.head
    logger.info("%d new heads take the place of the head", members)
    head = nn.Linear(old.in_features, members, bias=old.bias is not None)
    init_head(head, generator=generator)
    freeze_bias(head)
    return _replaced(model, head)


def merge_heads(model: RewardModel) -> RewardModel:
    """The mean of an ensemble's heads as an ordinary reward model with one label, for tools that want just that.

    Exact, since the mean of linear functions is linear. The model itself is changed.

    Raises:
        RecipeError: There is only one head.
    """
    if model.members == 1:
        raise RecipeError("the model has one head already")
    old = model.head
    head = nn.Linear(old.in_features, 1, bias=old.bias is not None)
    with torch.no_grad():
        head.weight.copy_(old.weight.mean(0, keepdim=True))
    freeze_bias(head)
    return _replaced(model, head)


def _replaced(model: RewardModel, head: nn.Linear) -> RewardModel:
    """Put a head in the place of a model's own, and its number of labels into the configuration."""
    core: PreTrainedModel = model.core
    old = find_head(core, outputs=model.members)
    head.to(device=old.weight.device, dtype=old.weight.dtype)
    for parent in list(core.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, head)
    core.config.num_labels = head.out_features
    if hasattr(core, "num_labels"):
        core.num_labels = head.out_features
    return RewardModel(model.pretrained, sharing=model.sharing, members=head.out_features)
