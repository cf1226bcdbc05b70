"""What most objectives of policies first take from their batch."""

from jaxtyping import Bool, Float
from torch import Tensor

from trueup.errors import RecipeError
from trueup.functional.segments import branch_sum
from trueup.types import PolicyBatch


def given(tensor: Tensor | None, name: str) -> Tensor:
    """The tensor, unless the batch lacks it.

    Raises:
        RecipeError: It is None.
    """
    if tensor is None:
        raise RecipeError(f"the batch holds no `{name}`, which this objective needs: fill it before calling")
    return tensor


def not_negative(name: str, number: float) -> None:
    """Refuse a hyper-parameter below 0.

    Raises:
        RecipeError: It is negative or not a number.
    """
    if not number >= 0:
        raise RecipeError(f"{name} must not be negative, got {number}")


def positive(name: str, number: float) -> None:
    """Refuse a hyper-parameter that is not above 0.

    Raises:
        RecipeError: It is 0, negative or not a number.
    """
    if not number > 0:
        raise RecipeError(f"{name} must be positive, got {number}")


def branch_logprob(batch: PolicyBatch) -> Float[Tensor, " branches"]:
    """Log-probability of each whole response, nats."""
    return branch_sum(batch.logprob, batch.branch, len(batch.prompt))


def token_ratio(batch: PolicyBatch) -> Float[Tensor, " t"]:
    """Log pi - log pi_ref of each token, nats."""
    return batch.logprob - given(batch.reference, "reference")


def branch_ratio(batch: PolicyBatch) -> Float[Tensor, " branches"]:
    """Log pi - log pi_ref of each whole response, nats."""
    return branch_sum(token_ratio(batch), batch.branch, len(batch.prompt))


def token_moved(batch: PolicyBatch) -> Float[Tensor, " t"]:
    """Log pi - log of the policy that drew, of each token, nats."""
    return batch.logprob - given(batch.behaviour, "behaviour")


def kept_tokens(batch: PolicyBatch) -> Bool[Tensor, " t"] | None:
    """Which tokens are learned from; None means all."""
    return None if batch.kept is None else batch.kept[batch.branch]
