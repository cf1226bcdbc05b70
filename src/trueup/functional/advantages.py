"""How much better a response, or a token, did than expected."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trueup.errors import RecipeError
from trueup.functional.segments import branch_sum, reverse_cumsum


def leave_one_out(reward: Float[Tensor, " branches"], prompt: Int[Tensor, " branches"]) -> Float[Tensor, " branches"]:
    """`R_j - mean of the other responses to the same prompt`.

    Args:
        reward: One per response.
        prompt: Group of each response, from 0; groups may differ in size.

    Raises:
        RecipeError: A prompt has a single response, which leaves nothing to compare it with.

    >>> leave_one_out(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0, 0, 0])).tolist()
    [1.5, -1.5, 0.0]
    """
    total, size = _groups(reward, prompt)
    if bool((size == 1).any()):
        raise RecipeError("leave-one-out compares responses to the same prompt: draw at least 2 for each, got 1")
    return reward - (total - reward) / (size - 1)


def group_normalized(
    reward: Float[Tensor, " branches"],
    prompt: Int[Tensor, " branches"],
    *,
    scale: bool = True,
    epsilon: float = 1e-4,
) -> Float[Tensor, " branches"]:
    """`(R_j - mean) / (std + epsilon)` within the responses to each prompt.

    std has n - 1 in its denominator. A single response, and responses that are all equal, get 0.

    Args:
        reward: One per response.
        prompt: Group of each response, from 0; groups may differ in size.
        scale: Whether to divide by the deviation at all.
        epsilon: Keeps groups of nearly equal rewards from being blown up.
    """
    total, size = _groups(reward, prompt)
    centred = reward - total / size
    if not scale:
        return centred
    squares, _ = _groups(centred.square(), prompt)
    return centred / ((squares / (size - 1).clamp(min=1)).sqrt() + epsilon)


def gae(
    token_reward: Float[Tensor, " t"],
    value: Float[Tensor, " t"],
    branch: Int[Tensor, " t"],
    *,
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Generalised advantage estimation: `A_t = sum_k (gamma lam)^k delta_{t+k}`.

    `delta_t = r_t + gamma V_{t+1} - V_t`, with V = 0 after a branch's last token, whether it ended or was cut.

    **Source**: Schulman et al., "High-dimensional continuous control using generalized advantage estimation" (arXiv
    1506.02438), eq. 16.

    Returns:
        Advantages, and the returns `A_t + V_t` for the value to predict.
    """
    following = torch.cat([value[1:], value[:0].new_zeros(min(len(value), 1))])
    together = torch.cat([branch[1:] == branch[:-1], branch.new_zeros(min(len(branch), 1), dtype=torch.bool)])
    delta = token_reward + gamma * torch.where(together, following, 0) - value
    advantage = reverse_cumsum(delta, branch, decay=gamma * lam)
    return advantage, advantage + value


def whiten(
    values: Float[Tensor, " n"], mask: Bool[Tensor, " n"] | None = None, *, epsilon: float = 1e-8
) -> Float[Tensor, " n"]:
    """Shift and scale to mean 0 and variance 1 (n in the denominator); entries that do not count become 0.

    `(v - mean) / sqrt(variance + epsilon)`, so that values that are all equal give 0.
    """
    counted = values if mask is None else values[mask]
    if not len(counted):
        return torch.zeros_like(values)
    white = (values - counted.mean()) / (counted.var(correction=0) + epsilon).sqrt()
    return white if mask is None else torch.where(mask, white, 0)


def _groups(values: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and size of each entry's group."""
    size = prompt.bincount()
    return branch_sum(values, prompt, len(size))[prompt], size[prompt].to(values.dtype)
