"""The reward of single responses that a method of preferences takes its policy to imply."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.types import Coupled, PolicyBatch, PolicyObjective


def batch_of_given(rows: Sequence[BranchRow], logprob: Sequence[Tensor], **known: Sequence[Tensor]) -> PolicyBatch:
    """Given responses as an objective sees them, all rows in one batch, in double precision.

    Args:
        rows: Tokenised rows.
        logprob: Log-probability of each row's response tokens.
        known: More values, by the names of `PolicyBatch`: of each, one tensor for each row.
    """
    lengths = torch.tensor([length for row in rows for length in row.branch_lengths])
    counts = torch.tensor([len(row.branch_lengths) for row in rows])
    return PolicyBatch(
        logprob=torch.cat(list(logprob)).double(),
        branch=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        prompt=torch.repeat_interleave(torch.arange(len(rows)), counts),
        **{name: torch.cat(list(values)).double() for name, values in known.items()},
    )


def implied_rewards(method: PolicyObjective, batch: PolicyBatch) -> Float[Tensor, " branches"]:
    """The reward that a method logs of its responses: `beta log pi / pi_ref` for DPO, others for others.

    Each response is held against itself, so that the method tells the reward of all of them, paired or not.

    >>> from trueup.objectives.example import two_preferences
    >>> from trueup.objectives.preference.dpo import DPO
    >>> from trueup.functional.policy_batch import branch_ratio
    >>> batch = two_preferences()
    >>> bool((implied_rewards(DPO(beta=0.5), batch) == 0.5 * branch_ratio(batch)).all())
    True

    Raises:
        RecipeError: The method implies no reward, or needs what the batch lacks.
    """
    each = torch.arange(len(batch.prompt))
    alone = replace(batch, pairs=torch.stack([each, each], dim=1))
    stats = method.statistics(alone) if isinstance(method, Coupled) else {}
    found = method(alone, stats).metrics.get("rewards/chosen")
    if found is None:
        raise RecipeError(f"{type(method).__name__} takes its policy to imply no reward")
    return found
