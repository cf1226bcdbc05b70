"""Batch-wise sum-to-zero: hold the mean reward of a batch at zero."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trueup.errors import RecipeError
from trueup.types import Loss, RewardBatch, Stats, Unit

Reduction = Literal["official", "mean", "sum"]


@dataclass(frozen=True, kw_only=True)
class BatchSumToZero:
    """A penalty on the squared mean reward m of a group of b pairs; added to Bradley-Terry it is BT-BSR.

    With S = sum of the group's 2b rewards and m = S / (2b), the term of one group is

    - `official`: `lambda b m^2` = `lambda S^2 / (4b)`: the authors' code, in which lambda is multiplied by b once;
    - `mean`: `lambda m^2`;
    - `sum`: `lambda S^2`;

    and the loss is its mean over the step's groups. Each pair i of the group carries `k S (2 s_i - S / b)`, with
    s_i = r_w + r_l and S detached: summed over the group this has the value and the gradient of k S^2, so that no
    cut of the step into micro-batches or devices changes it.

    **Source**: Hong, Lee et al., "On the Robustness of Reward Models for Language Model Alignment" (arXiv
    2505.07271), L_BSR, and its released code for the normaliser.
    **Deviations**: the released code takes m over each device's own batch, so its strength depends on the launch.
    Here a group is the whole step, or `group_size` consecutive pairs: 16 repeats the paper's 8 devices of 16 pairs
    on any number of devices. A short last group counts its own pairs.
    **Beware**: b counts pairs. All six pairs of four responses make the official strength six times that of one pair a
    prompt; set `group_size` to the number of prompts, or a smaller coefficient.
    **Limits**: Bradley-Terry alone at `coefficient = 0`; per-pair centring of coefficient/4 at `group_size = 1`.

    Args:
        coefficient: lambda above.
        reduction: Which of the three normalisers.
        group_size: Pairs per group; None for the whole step.

    >>> from trueup.objectives.example import two_pairs
    >>> batch = two_pairs()
    >>> bsr = BatchSumToZero(coefficient=1e-3)
    >>> round(bsr(batch, bsr.statistics(batch)).values.mean().item(), 6)
    0.0045
    """

    unit: ClassVar[Unit] = "pair"
    coefficient: float = 1e-3
    reduction: Reduction = "official"
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise RecipeError(f"coefficient must not be negative, got {self.coefficient}")
        if self.group_size is not None and self.group_size < 1:
            raise RecipeError(f"group_size must be at least 1, got {self.group_size}")

    def applied(self, step_pairs: int) -> float:
        """Coefficient of m^2 in the loss for a full group of a step of so many pairs."""
        pairs = min(self.group_size or step_pairs, step_pairs)
        return self.coefficient * {"official": pairs, "mean": 1, "sum": 4 * pairs**2}[self.reduction]

    def statistics(self, batch: RewardBatch, /) -> Stats:
        """Return each group's reward sum and number of pairs."""
        group, groups = self._groups(batch)
        total = (batch.chosen + batch.rejected).detach()
        zeros = total.new_zeros(groups)
        return {
            "reward_sum": zeros.index_add(0, group, total),
            "pairs": zeros.index_add(0, group, torch.ones_like(total)),
        }

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        group, _ = self._groups(batch)
        reward_sum, pairs = stats["reward_sum"][group], stats["pairs"][group]
        # The step's mean weighs a group by its pairs, hence one factor b more than in the formulas above.
        weight = {"official": 0.25 * torch.ones_like(pairs), "mean": 0.25 / pairs, "sum": pairs}[self.reduction]
        pair_sum = batch.chosen + batch.rejected
        values = self.coefficient * weight * reward_sum * (2 * pair_sum - reward_sum / pairs)
        return Loss(values, metrics={"reward_sum_to_zero": (reward_sum / (2 * pairs)).abs()})

    def _groups(self, batch: RewardBatch) -> tuple[Tensor, int]:
        size = self.group_size or batch.step_pairs
        return batch.order // size, -(-batch.step_pairs // size)
