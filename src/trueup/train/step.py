"""One optimiser step of a reward model: losses summed over micro-batches and devices, normalised once.

An objective returns one value per unit and never learns how the step was cut. Here the step's units are counted before
the first pass; coupled objectives get the whole step's sums, from an extra pass without gradient where the step has
several micro-batches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trueup.data.branches import BranchRow
from trueup.functional.masked import masked_sum
from trueup.models.branching import Layout
from trueup.models.plan import Part
from trueup.models.reward import Branches
from trueup.types import Coupled, RewardBatch, RewardObjective, Stats

SumOverDevices = Callable[[Tensor], Tensor]
"""All-reduce by sum; the identity on one device."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The rows of one optimiser step on this device, and the whole step's counts.

    Args:
        rows: This device's rows.
        first_pair: Pairs that earlier devices hold, so that pairs have one order over all devices.
        units: Number of units of each kind in the whole step, over all devices.
    """

    rows: Sequence[BranchRow]
    first_pair: int
    units: Mapping[str, int]

    @classmethod
    def count(
        cls, rows: Sequence[BranchRow], *, rank: int, world: int, add: SumOverDevices, device: torch.device
    ) -> "Step":
        """Count the step's units over all devices."""
        pairs = sum(len(row.pairs) for row in rows)
        ranked = sum(int((row.rank >= 0).sum() >= 2) for row in rows)
        table = torch.zeros(world, 3, dtype=torch.long, device=device)
        table[rank] = torch.tensor([pairs, ranked, sum(len(row.branch_lengths) for row in rows)])
        table = add(table).cpu()
        total = table.sum(0).tolist()
        units = {"pair": total[0], "prompt": total[1], "branch": total[2]}
        return cls(rows=rows, first_pair=int(table[:rank, 0].sum()), units=units)

    def batch(self, part: Part, branches: Branches) -> RewardBatch:
        """What objectives see of one micro-batch."""
        rows = [self.rows[i] for i in part]
        device = branches.reward.device
        starts = np.concatenate([[0], np.cumsum([len(row.pairs) for row in self.rows])]) + self.first_pair
        offsets = np.concatenate([[0], np.cumsum([len(row.branch_lengths) for row in rows])])
        pairs = [row.pairs + offset for row, offset in zip(rows, offsets[:-1], strict=True)]
        order = [starts[i] + np.arange(len(self.rows[i].pairs)) for i in part]
        margin = np.repeat([row.margin for row in rows], [len(row.pairs) for row in rows])
        prompt = np.repeat(np.arange(len(rows)), [len(row.branch_lengths) for row in rows])
        return RewardBatch(
            reward=branches.reward,
            hidden=branches.hidden,
            prompt=torch.from_numpy(prompt).to(device),
            pairs=torch.from_numpy(np.concatenate(pairs)).to(device),
            margin=torch.from_numpy(margin).to(device, branches.reward.dtype),
            order=torch.from_numpy(np.concatenate(order)).to(device),
            step_pairs=self.units["pair"],
            rank=torch.from_numpy(np.concatenate([row.rank for row in rows])).to(device),
        )


@dataclass
class Tally:
    """Detached sums over units, for logging; reduced over devices only when something is logged."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Count every entry of `values` under a name."""
        values = values.detach()
        total = values.sum(dtype=torch.float64)
        count = torch.tensor(float(values.numel()), dtype=torch.float64, device=values.device)
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] = self.counts[name] + count if name in self.counts else count

    def means(self, add: SumOverDevices) -> dict[str, float]:
        """Means over all devices."""
        names = sorted(self.sums)
        if not names:
            return {}
        table = add(torch.stack([torch.stack([self.sums[n], self.counts[n]]) for n in names]))
        return {
            name: (total / count if count else float("nan"))
            for name, (total, count) in zip(names, table.tolist(), strict=True)
        }


def add_stats(total: Stats | None, more: Stats) -> Stats:
    """Sum two micro-batches' statistics."""
    return more if total is None else {name: total[name] + value for name, value in more.items()}


def statistics(
    step: Step,
    terms: Sequence[RewardObjective],
    passes: Sequence[tuple[Part, Branches]],
    *,
    add: SumOverDevices,
) -> list[Stats]:
    """Each term's statistics over the whole step; empty for terms that couple nothing."""
    result: list[Stats] = []
    for term in terms:
        total: Stats | None = None
        if isinstance(term, Coupled):
            for part, branches in passes:
                total = add_stats(total, term.statistics(step.batch(part, branches)))
        result.append({name: add(value) for name, value in (total or {}).items()})
    return result


def reduce_loss(
    step: Step,
    terms: Sequence[RewardObjective],
    batch: RewardBatch,
    stats: Sequence[Stats],
    *,
    tally: Tally | None = None,
) -> Tensor:
    """Share of the step's loss in a micro-batch: each term's sum over its units, divided by the step's count."""
    total = batch.reward.new_zeros(())
    for term, sums in zip(terms, stats, strict=True):
        loss = term(batch, sums)
        share = masked_sum(loss.values, loss.mask) / max(step.units[term.unit], 1)
        total = total + share
        if tally is not None:
            counted = loss.values if loss.mask is None else loss.values[loss.mask]
            tally.add(f"loss/{term_name(term)}", counted)
    return total


def term_name(term: object) -> str:
    """`BatchSumToZero` -> `batch_sum_to_zero`."""
    name = type(term).__name__
    return "".join("_" + letter.lower() if letter.isupper() and i else letter.lower() for i, letter in enumerate(name))


def observe(tally: Tally, batch: RewardBatch, layout: Layout) -> None:
    """Record what is logged of every micro-batch."""
    margin = batch.chosen - batch.rejected
    norm = batch.hidden.detach().float().norm(dim=-1)
    tally.add("accuracy", (margin > 0).double())
    tally.add("margin", margin)
    tally.add("mean_reward", batch.reward)
    tally.add("reward_square", batch.reward.detach().double().square())
    tally.add("hidden_norm_mean", norm)
    tally.add("hidden_norm_square", norm.double().square())
    tally.add("padding_share", (layout.tree < 0).double())


def summarize(means: dict[str, float]) -> dict[str, float]:
    """Turn means of squares into standard deviations."""
    for name, mean, square in (
        ("reward_std", "mean_reward", "reward_square"),
        ("hidden_norm_std", "hidden_norm_mean", "hidden_norm_square"),
    ):
        if square in means:
            means[name] = max(means.pop(square) - means[mean] ** 2, 0.0) ** 0.5
    return means
