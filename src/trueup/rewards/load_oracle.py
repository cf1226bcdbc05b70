"""One name for any preference oracle."""

from pathlib import Path

import torch

from trueup.endpoints.settings import split_label
from trueup.rewards.function_oracle import FunctionOracle, compares, import_oracle
from trueup.rewards.judge import JudgeReward
from trueup.rewards.judge_oracle import compare_with
from trueup.rewards.load import load_reward
from trueup.rewards.oracle import PreferenceOracle
from trueup.rewards.reward_oracle import from_reward


def load_oracle(
    name: str,
    *,
    scale: float = 1.0,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    token_budget: int = 16_384,
    progress: bool = False,
    trust_remote_code: bool = False,
) -> PreferenceOracle:
    """Load an oracle.

    Args:
        name: What `load_reward` takes. A Python function with arguments `first` and `second` compares by itself;
            a judge is asked about pairs; all else is a reward, and compared by Bradley-Terry.
        scale: Difference of rewards that counts as one nat of log-odds; only for rewards.
        device: Where models run; CUDA if there is one.
        dtype: Type of weights; as saved by default.
        token_budget: Token slots per forward pass.
        progress: Whether a progress bar is shown.
        trust_remote_code: Whether code that comes with a model may run.

    Raises:
        RecipeError: The function cannot be imported, or settings cannot be used.
        CheckpointError: There is no such model, or it is no reward model.
    """
    function = _function(name)
    if function is not None:
        return function
    reward = load_reward(
        name,
        device=device,
        dtype=dtype,
        token_budget=token_budget,
        progress=progress,
        trust_remote_code=trust_remote_code,
    )
    return compare_with(reward) if isinstance(reward, JudgeReward) else from_reward(reward, scale=scale)


def _function(name: str) -> FunctionOracle | None:
    """The function of that name, if it is one that compares."""
    label, place = split_label(name)
    if ":" not in place or "://" in place or Path(place).exists():
        return None
    oracle = import_oracle(place)
    return FunctionOracle(oracle.function, label or oracle.name) if compares(oracle.function) else None
