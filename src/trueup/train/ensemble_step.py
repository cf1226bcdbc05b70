"""What each member of an ensemble sees of a step: its own bootstrap of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.models.plan import Part
from trueup.models.reward import Branches
from trueup.train.reward_step import reward_batch
from trueup.train.step import Step
from trueup.types import RewardBatch


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How often each row counts for each member: Poisson(1), as a resample of many rows with replacement has it.

    A count is a function of seed, row and member alone. So neither the order of the rows nor how steps are cut or
    resumed changes it, and every epoch is the same resample.

    **Source**: Oza & Russell, "Online Bagging and Boosting" (2001), for Poisson counts.

    Args:
        seed: Seed of all counts.
        members: Number of members.
    """

    seed: int
    members: int

    def counts(self, rows: Sequence[BranchRow]) -> Int[np.ndarray, "members rows"]:
        """How often each of these rows counts."""
        drawn = [np.random.default_rng([self.seed, row.index]).poisson(1.0, self.members) for row in rows]
        return np.asarray(drawn, np.int64).reshape(len(rows), self.members).T


@dataclass(frozen=True)
class Resample:
    """A member's own step: the rows of a step, each as often as it counts.

    Args:
        step: The repeated rows and their units.
        count: How often each row of the original step counts.
    """

    step: Step
    count: Int[np.ndarray, " rows"]

    @classmethod
    def of(cls, step: Step, count: Int[np.ndarray, " rows"]) -> "Resample":
        """Repeat a step's rows."""
        return cls(Step.count([row for row, times in zip(step.rows, count, strict=True) for _ in range(times)]), count)

    def batch(self, original: Step, part: Part, out: Branches) -> RewardBatch:
        """What objectives see of a micro-batch of the original step; repeated rows have the same rewards."""
        first = np.cumsum(self.count) - self.count
        places = tuple(int(first[i]) + again for i in part for again in range(self.count[i]))
        sizes = np.asarray([len(original.rows[i].branch_lengths) for i in part], np.int64)
        starts = np.cumsum(sizes) - sizes
        each = np.repeat(np.arange(len(part)), self.count[list(part)])
        index = [np.arange(starts[k], starts[k] + sizes[k]) for k in each]
        chosen = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *index])).to(out.reward.device)
        return reward_batch(self.step, places, Branches(out.reward[chosen], out.hidden[chosen]))


@dataclass(frozen=True)
class MemberBatches:
    """One micro-batch as an ensemble sees it.

    Args:
        whole: The members' mean on the rows as they are; what is logged as the model's own.
        members: Each member's step and its share of it in this micro-batch.
        rewards: All members' rewards of the rows as they are, [members, branches].
    """

    whole: RewardBatch
    members: tuple[tuple[Step, RewardBatch], ...]
    rewards: Tensor


def outputs_of(out: Branches) -> list[Branches]:
    """Each member's own output."""
    if out.members is None:
        return [out]
    own = out.member_hidden
    return [Branches(reward, out.hidden if own is None else own[i]) for i, reward in enumerate(out.members)]
