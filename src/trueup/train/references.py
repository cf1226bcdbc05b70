"""The log-probabilities that a policy is held against."""

from collections.abc import Sequence
from typing import Literal, Protocol

from peft import PeftModel
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.functional.logprobs import OtherStates
from trueup.models.policy import PolicyModel, reference_states
from trueup.models.reading import logprobs
from trueup.types import PolicyObjective


def is_compared(terms: Sequence[PolicyObjective], *, kl_coefficient: float = 0.0) -> bool:
    """Whether a loss, or a KL within the reward, holds the policy against a reference."""
    wanted = {need for term in terms for need in term.needs}
    return kl_coefficient > 0 or bool(wanted & {"reference", "forward_kl"})


class Reference(Protocol):
    """Anything that gives each reply token a log-probability."""

    def logprobs(self, rows: Sequence[BranchRow]) -> list[Tensor]:
        """Log-probabilities of each row's reply tokens, in nats, on the CPU."""
        ...

    def states(self, rows: Sequence[BranchRow]) -> OtherStates | Literal["base"]:
        """What a policy's forward pass over these rows is given to compare whole distributions with."""
        ...


class ModelReference:
    """A model of its own, whose weights an anchor may move.

    Args:
        model: The reference; it is frozen here.
        token_budget: Token slots of one pass.
    """

    def __init__(self, model: PolicyModel, *, token_budget: int) -> None:
        self.model, self.token_budget = model.eval(), token_budget
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def logprobs(self, rows: Sequence[BranchRow]) -> list[Tensor]:
        """Log-probabilities of each row's reply tokens."""
        return logprobs(self.model, rows, token_budget=self.token_budget)

    def states(self, rows: Sequence[BranchRow]) -> OtherStates:
        """Hidden states and output layer of the reference."""
        return reference_states(self.model, rows)


class AdapterOff:
    """The policy itself with its adapter switched off: no second model is held.

    Args:
        model: A policy with an adapter.
        token_budget: Token slots of one pass.
    """

    def __init__(self, model: PolicyModel, *, token_budget: int) -> None:
        if not isinstance(model.pretrained, PeftModel):
            raise ValueError("the policy has no adapter that could be switched off")
        self.model, self.adapter, self.token_budget = model, model.pretrained, token_budget

    def logprobs(self, rows: Sequence[BranchRow]) -> list[Tensor]:
        """Log-probabilities of each row's reply tokens."""
        with self.adapter.disable_adapter():
            return logprobs(self.model, rows, token_budget=self.token_budget)

    def states(self, rows: Sequence[BranchRow]) -> Literal["base"]:
        """The policy finds them itself."""
        return "base"
