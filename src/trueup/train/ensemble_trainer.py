"""The trainer of reward models with several members."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from trueup.models.plan import Part
from trueup.models.reward import Branches, RewardModel
from trueup.train.ensemble_step import Bootstrap, MemberBatches, Resample, outputs_of
from trueup.train.reward_step import observe_rewards, reward_batch
from trueup.train.reward_trainer import RewardTrainer
from trueup.train.step import Step, Tally, reduce_loss, statistics


class EnsembleTrainer(RewardTrainer):
    """Trains a `RewardModel` of several members; each has the whole loss, regularisers included, to itself.

    The loss is the mean over members of each one's mean over its own resample of the step's rows. So the trunk learns
    at one model's pace; and so does each member, whose gradient the model scales up to that of its own loss. The
    clipped norm is that of all members together.

    Args:
        bootstrap: How often each row counts for each member; None gives all members the same rows. Evaluation always
            does.
    """

    def __init__(self, *args: Any, bootstrap: Bootstrap | None, **options: Any) -> None:
        self.bootstrap = bootstrap
        self._resampled: tuple[Step, list[Resample]] | None = None
        super().__init__(*args, **options)

    def _batch(self, step: Step, part: Part, out: Branches) -> MemberBatches:  # type: ignore[override]
        whole, members = reward_batch(step, part, out), outputs_of(out)
        if self.bootstrap is None or not self.unwrapped.training:
            batches = tuple((step, reward_batch(step, part, member)) for member in members)
        else:
            samples = self._resamples(step, self.bootstrap)
            batches = tuple(
                (sample.step, sample.batch(step, part, member)) for sample, member in zip(samples, members, strict=True)
            )
        return MemberBatches(whole, batches, torch.stack([member.reward for member in members]))

    def _resamples(self, step: Step, bootstrap: Bootstrap) -> list[Resample]:
        if self._resampled is None or self._resampled[0] is not step:
            self._resampled = step, [Resample.of(step, count) for count in bootstrap.counts(step.rows)]
        return self._resampled[1]

    def _sums(self, step: Step, batches: Sequence[MemberBatches]) -> list[Any]:
        """Each member's statistics; none for one to which no row of the step fell."""
        members = cast(RewardModel, self.unwrapped).members
        shares = [[batch.members[i] for batch in batches] for i in range(members)]
        return [
            statistics(self.terms, [batch for own, batch in share if own.rows], add=self._sum_over_devices)
            for share in shares
        ]

    def _reduce(self, step: Step, batch: MemberBatches, sums: Sequence[Any], *, tally: Tally) -> Tensor:
        losses = [
            reduce_loss(own, self.terms, share, stats, tally=tally) if own.rows else share.reward.sum()
            for (own, share), stats in zip(batch.members, sums, strict=True)
        ]
        return torch.stack(losses).mean()

    def _nothing(self, out: Branches) -> Branches:
        members, hidden = (None if own is None else own[:, :0] for own in (out.members, out.member_hidden))
        return replace(super()._nothing(out), members=members, member_hidden=hidden)

    def _observe(self, tally: Tally, batch: MemberBatches) -> None:  # type: ignore[override]
        observe_rewards(tally, batch.whole)
        rewards, pairs = batch.rewards.detach().double(), batch.whole.pairs
        tally.add("member_std", rewards.std(dim=0, correction=0))
        tally.add("member_accuracy", (rewards[:, pairs[:, 0]] > rewards[:, pairs[:, 1]]).double())
