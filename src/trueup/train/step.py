"""One optimiser step: losses summed over micro-batches and devices, normalised once.

An objective returns one value per unit and never learns how the step was cut. Here the step's units are counted before
the first pass; coupled objectives get the whole step's sums, from an extra pass without gradient where the step has
several micro-batches.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trueup import objectives
from trueup.data.branches import BranchRow
from trueup.functional.masked import masked_sum
from trueup.types import Coupled, PolicyObjective, RewardObjective, Stats

Objective = RewardObjective | PolicyObjective

SumOverDevices = Callable[[Tensor], Tensor]
"""All-reduce by sum; the identity on one device."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices that share a step.

    Args:
        rank: Number of this one.
        world: How many there are.
        add: Sums a tensor over all of them.
    """

    rank: int = 0
    world: int = 1
    add: SumOverDevices = lambda tensor: tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """Elementwise largest value over all devices."""
        table = tensor.new_zeros(self.world, *tensor.shape)
        table[self.rank] = tensor
        return self.add(table).amax(0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The rows of one optimiser step, over all devices, and how many units of each kind they hold.

    Args:
        rows: All rows of the step.
        units: Number of pairs, rankings, branches and response tokens.
    """

    rows: Sequence[BranchRow]
    units: Mapping[str, int]

    @classmethod
    def count(cls, rows: Sequence[BranchRow]) -> "Step":
        """Count the step's units."""
        units = {
            "pair": sum(len(row.pairs) for row in rows),
            "prompt": sum(int((row.rank >= 0).sum() >= 2) for row in rows),
            "branch": sum(len(row.branch_lengths) for row in rows),
            "token": sum(sum(row.branch_lengths) for row in rows),
        }
        return cls(rows=rows, units=units)


@dataclass
class Tally:
    """Detached sums and extremes over units, for logging; reduced over devices only when something is logged.

    Names that start with `max_` or `min_` are extremes, all others means.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tops: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Count every entry of `values` under a name; no entries are fine."""
        values = values.detach()
        if name.startswith(("max_", "min_")):
            signed = values.double() if name.startswith("max_") else -values.double()
            top = torch.cat([signed.flatten(), signed.new_tensor([float("-inf")])]).amax()
            self.tops[name] = torch.maximum(self.tops[name], top) if name in self.tops else top
            return
        total = values.sum(dtype=torch.float64)
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] = self.counts.get(name, 0) + values.numel()

    def means(self, devices: Devices) -> dict[str, float]:
        """Means and extremes over all devices, each of which must have been given the same names."""
        result: dict[str, float] = {}
        if self.sums:
            names = sorted(self.sums)
            sums = torch.stack([self.sums[name] for name in names])
            counts = sums.new_tensor([self.counts[name] for name in names])
            sums, counts = devices.add(torch.stack([sums, counts]))
            result |= dict(zip(names, (sums / counts).tolist(), strict=True))
        if self.tops:
            names = sorted(self.tops)
            tops = devices.largest(torch.stack([self.tops[name] for name in names])).tolist()
            result |= {name: top if name.startswith("max_") else -top for name, top in zip(names, tops, strict=True)}
        return result


def add_stats(total: Stats | None, more: Stats) -> Stats:
    """Sum two micro-batches' statistics."""
    return more if total is None else {name: total[name] + value for name, value in more.items()}


def statistics(terms: Sequence[Objective], batches: Sequence[Any], *, add: SumOverDevices) -> list[Stats]:
    """Each term's statistics over the whole step; empty for terms that couple nothing."""
    result: list[Stats] = []
    for term in terms:
        total: Stats | None = None
        if isinstance(term, Coupled):
            for batch in batches:
                total = add_stats(total, term.statistics(batch))
        result.append({name: add(value) for name, value in (total or {}).items()})
    return result


def reduce_loss(
    step: Step,
    terms: Sequence[Objective],
    batch: Any,
    stats: Sequence[Stats],
    *,
    tally: Tally | None = None,
) -> Tensor:
    """Share of the step's loss in a micro-batch: each term's sum over its units, divided by the step's count."""
    shares: list[Tensor] = []
    for term, sums in zip(terms, stats, strict=True):
        loss = term(batch, sums)
        shares.append(masked_sum(loss.values, loss.mask) / max(step.units[term.unit], 1))
        if tally is not None:
            logged = {f"loss/{term_name(term)}": loss.values, **loss.metrics}
            for name, values in logged.items():
                tally.add(name, values if loss.mask is None else values[loss.mask])
    return torch.stack(shares).sum()


def term_name(term: object) -> str:
    """What a recipe calls a term; of one that is in no table, its class in small letters: `MyTerm` -> `my_term`."""
    return _NAMES.get(type(term)) or _WORDS.sub("_", type(term).__name__).lower()


_NAMES: Mapping[type, str] = {
    kind: name
    for table in (
        objectives.REWARD_OBJECTIVES,
        objectives.REWARD_REGULARIZERS,
        objectives.POLICY_OBJECTIVES,
        objectives.POLICY_REGULARIZERS,
        objectives.SUPERVISED_OBJECTIVES,
        objectives.PREFERENCE_OBJECTIVES,
        objectives.ADVANTAGE_OBJECTIVES,
    )
    for name, kind in table.items()
}


# Where a word begins: after a small letter, at the last capital of a row of them, or at a `k2` behind one.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z](?!\d)|[a-z]\d)")


def summarize(means: dict[str, float]) -> dict[str, float]:
    """Turn means of squares into standard deviations."""
    for name, mean, square in (
        ("reward_std", "mean_reward", "reward_square"),
        ("reward_std", "reward", "rollout_reward_square"),
        ("hidden_norm_std", "hidden_norm_mean", "hidden_norm_square"),
    ):
        if square in means:
            means[name] = max(means.pop(square) - means[mean] ** 2, 0.0) ** 0.5
    return means
