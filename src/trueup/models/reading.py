"""What a policy says of rows, without gradients, pass by pass."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.models.plan import cut
from trueup.models.policy import PolicyModel


def logprobs(model: PolicyModel, rows: Sequence[BranchRow], *, token_budget: int) -> list[Tensor]:
    """Log-probabilities of each row's reply tokens, in nats, on the CPU."""
    return _read(model, rows, "logprob", token_budget=token_budget)


def values(model: PolicyModel, rows: Sequence[BranchRow], *, token_budget: int) -> list[Tensor]:
    """What the value head says at each row's reply tokens, on the CPU."""
    return _read(model, rows, "value", token_budget=token_budget)


@torch.no_grad()
def _read(
    model: PolicyModel, rows: Sequence[BranchRow], name: Literal["logprob", "value"], *, token_budget: int
) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for part in cut(rows, budget=token_budget, sharing=model.sharing):
        tokens = model(model.layout([rows[i] for i in part]), value=name == "value")
        values = getattr(tokens, name).float().cpu()
        sizes = [sum(rows[i].branch_lengths) for i in part]
        found |= dict(zip(part, torch.split(values, sizes), strict=True))
    return [found[i] for i in range(len(rows))]
