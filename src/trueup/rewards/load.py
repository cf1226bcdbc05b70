"""One name for any reward: a directory, a run, a hub id, or a Python function."""

from pathlib import Path

import torch

from trueup.models.checkpoints import load_reward_model
from trueup.rewards.base import Reward
from trueup.rewards.function import import_function
from trueup.rewards.model import ModelReward


def load_reward(
    name: str,
    *,
    keep_hidden: bool = False,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    token_budget: int = 16_384,
    progress: bool = False,
    trust_remote_code: bool = False,
) -> Reward:
    """Load a reward.

    Args:
        name: `package.module:function`, a model directory, a run directory of ours (its `model` is taken) or a hub id;
            `LABEL=` in front gives it a name for reports.
        keep_hidden: Whether models return hidden states and norms.
        device: Where models run; CUDA if there is one.
        dtype: Type of weights; as saved by default.
        token_budget: Token slots per forward pass.
        progress: Whether a progress bar is shown.
        trust_remote_code: Whether code that comes with a model may run.

    Raises:
        RecipeError: The function cannot be imported.
        CheckpointError: There is no such model, or it is no reward model.
    """
    label, equals, place = name.partition("=")
    if not equals or Path(name).exists():
        label, place = "", name
    if ":" in place and not Path(place).exists():
        reward = import_function(place)
        return type(reward)(reward.function, label or reward.name)
    inside = Path(place) / "model"
    source = str(inside) if any((inside / file).is_file() for file in ("config.json", "adapter_config.json")) else place
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = load_reward_model(source, dtype=dtype, device=chosen, trust_remote_code=trust_remote_code)
    return ModelReward(
        checkpoint=checkpoint,
        name=label or Path(place).name,
        token_budget=token_budget,
        keep_hidden=keep_hidden,
        progress=progress,
    )
