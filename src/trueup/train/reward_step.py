"""What reward objectives see of a micro-batch, and what is logged of it."""

import numpy as np
import torch
from torch import Tensor

from trueup.models.plan import Part
from trueup.models.reward import Branches
from trueup.train.step import Step, Tally
from trueup.types import RewardBatch


def reward_batch(step: Step, part: Part, branches: Branches) -> RewardBatch:
    """What objectives see of one micro-batch; an empty part gives a batch without units."""
    rows = [step.rows[i] for i in part]
    branch_counts = np.asarray([len(row.branch_lengths) for row in rows], np.int64)
    pair_counts = np.asarray([len(row.pairs) for row in rows], np.int64)
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(row.pairs for row in rows)])
    offsets = np.cumsum(branch_counts) - branch_counts
    starts = np.cumsum([0, *(len(row.pairs) for row in step.rows)])
    order = [starts[i] + np.arange(len(step.rows[i].pairs)) for i in part]
    margin = np.repeat(np.asarray([row.margin for row in rows], np.float64), pair_counts)
    device = branches.reward.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return RewardBatch(
        reward=branches.reward,
        hidden=branches.hidden,
        prompt=tensor(np.repeat(np.arange(len(rows)), branch_counts)),
        pairs=tensor(pairs + np.repeat(offsets, pair_counts)[:, None]),
        margin=tensor(margin).to(branches.reward.dtype),
        order=tensor(np.concatenate([np.zeros(0, np.int64), *order])),
        step_pairs=step.units["pair"],
        rank=tensor(np.concatenate([np.zeros(0, np.int64), *(row.rank for row in rows)])),
    )


def observe_rewards(tally: Tally, batch: RewardBatch) -> None:
    """Record what is logged of every micro-batch."""
    margin = batch.chosen - batch.rejected
    norm = batch.hidden.detach().double().norm(dim=-1)
    tally.add("accuracy", (margin > 0).double())
    tally.add("margin", margin)
    for name in ("min_reward", "mean_reward", "max_reward"):
        tally.add(name, batch.reward)
    tally.add("reward_square", batch.reward.detach().double().square())
    tally.add("hidden_norm_mean", norm)
    tally.add("hidden_norm_square", norm.square())
