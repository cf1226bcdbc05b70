"""Losses of a reward margin, one value per pair.

The margin is the reward of the chosen response minus that of the rejected one; each function but `squared` falls as it
grows. For policies, the reward is the one that they imply: methods differ in which, and in the loss of its margin.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from trueup.errors import RecipeError
from trueup.functional.policy_batch import branch_logprob, given
from trueup.types import Loss, PolicyBatch

# Beyond e^20 a ratio of probabilities says only that something broke; its tangent keeps it, and its gradient, finite.
LARGEST_LOG_RATIO = 20.0


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


def unbiased_logistic(margin: Float[Tensor, "*pairs"], *, flipped: float) -> Float[Tensor, "*pairs"]:
    """A loss whose mean over labels that are turned round with probability e is `-log sigmoid` of the true margin.

    `(-(1 - e) log sigmoid(margin) + e log sigmoid(-margin)) / (1 - 2 e)` with e = `flipped`, in nats.

    >>> import torch
    >>> true, turned = (unbiased_logistic(torch.tensor(margin), flipped=0.25) for margin in (1.0, -1.0))
    >>> round((0.75 * true + 0.25 * turned).item(), 6)
    0.313262
    """
    clean = (1 - flipped) * F.logsigmoid(margin) - flipped * F.logsigmoid(-margin)
    return -clean / (1 - 2 * flipped)


def hinge(margin: Float[Tensor, "*pairs"], *, target: float) -> Float[Tensor, "*pairs"]:
    """How far the margin falls short of `target`: `max(target - margin, 0)`."""
    return (target - margin).relu()


def squared(margin: Float[Tensor, "*pairs"], *, target: float) -> Float[Tensor, "*pairs"]:
    """How far the margin is from `target`, squared."""
    return (margin - target).square()


def of_pairs(values: Float[Tensor, " branches"], batch: PolicyBatch) -> tuple[Tensor, Tensor]:
    """Values of each pair's chosen and of its rejected branch.

    Raises:
        RecipeError: The batch holds no pairs.
    """
    chosen, rejected = given(batch.pairs, "pairs").unbind(1)
    return values[chosen], values[rejected]


def margin_of_pairs(values: Float[Tensor, " branches"], batch: PolicyBatch) -> Float[Tensor, " pairs"]:
    """Value of each pair's chosen branch minus that of its rejected one."""
    chosen, rejected = of_pairs(values, batch)
    return chosen - rejected


def kept_pairs(batch: PolicyBatch) -> Bool[Tensor, " pairs"] | None:
    """Which pairs are learned from, namely those with both branches; None means all."""
    if batch.kept is None:
        return None
    chosen, rejected = of_pairs(batch.kept, batch)
    return chosen & rejected


def pair_loss(values: Float[Tensor, " pairs"], reward: Float[Tensor, " branches"], batch: PolicyBatch) -> Loss:
    """The loss of a method with what TRL logs of pairs, under TRL's names.

    Args:
        values: The loss of each pair.
        reward: The reward of each branch that the method takes its policy to imply.
        batch: What the loss was computed on.
    """
    return Loss(values, kept_pairs(batch), metrics=pair_metrics(reward, batch))


def pair_metrics(reward: Float[Tensor, " branches"], batch: PolicyBatch) -> Mapping[str, Tensor]:
    """Implied rewards, their margins and whether they rank as the label does; log-probabilities of whole responses."""
    chosen, rejected = of_pairs(reward.detach(), batch)
    chosen_logprob, rejected_logprob = of_pairs(branch_logprob(batch).detach(), batch)
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
        "logps/chosen": chosen_logprob,
        "logps/rejected": rejected_logprob,
    }


def require(holds: bool, name: str, number: float, *, must: str, cure: str) -> None:
    """Refuse a hyper-parameter with which a method makes no sense.

    Args:
        holds: Whether it may stay; comparisons with NaN say no.
        name: Of the hyper-parameter.
        number: Its value.
        must: What it has to do: "be positive".
        cure: What to do instead.

    Raises:
        RecipeError: It does not hold.
    """
    if not holds:
        raise RecipeError(f"{name} must {must}, got {number}; {cure}")
