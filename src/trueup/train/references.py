"""The log-probabilities that a policy is held against."""

from collections.abc import Sequence
from typing import Protocol

import torch
from peft import PeftModel
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.models.plan import cut
from trueup.models.policy import PolicyModel


class Reference(Protocol):
    """Anything that gives each reply token a log-probability."""

    def logprobs(self, rows: Sequence[BranchRow]) -> list[Tensor]:
        """Log-probabilities of each row's reply tokens, in nats, on the CPU."""
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


@torch.no_grad()
def logprobs(model: PolicyModel, rows: Sequence[BranchRow], *, token_budget: int) -> list[Tensor]:
    """Log-probabilities of each row's reply tokens, in nats, on the CPU."""
    found: dict[int, Tensor] = {}
    for part in cut(rows, budget=token_budget, sharing=model.sharing):
        values = model(model.layout([rows[i] for i in part])).logprob.float().cpu()
        sizes = [sum(rows[i].branch_lengths) for i in part]
        found |= dict(zip(part, torch.split(values, sizes), strict=True))
    return [found[i] for i in range(len(rows))]
