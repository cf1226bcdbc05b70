"""Losses of a reward margin, one value per pair.

The margin is the reward of the chosen response minus that of the rejected one; each function falls as it grows.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def logistic(margin: Float[Tensor, "*pairs"], *, label_smoothing: float = 0.0) -> Float[Tensor, "*pairs"]:
    """Negative log-likelihood of a Bradley-Terry choice: `-log sigmoid(margin)`, in nats.

    With `label_smoothing` e the label is taken to be wrong with probability e:
    `-(1 - e) log sigmoid(margin) - e log sigmoid(-margin)`.

    >>> import torch
    >>> round(logistic(torch.tensor(1.0)).item(), 6)
    0.313262
    """
    if label_smoothing == 0.0:
        return -F.logsigmoid(margin)
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def hinge(margin: Float[Tensor, "*pairs"], *, target: float) -> Float[Tensor, "*pairs"]:
    """How far the margin falls short of `target`: `max(target - margin, 0)`."""
    return (target - margin).relu()
