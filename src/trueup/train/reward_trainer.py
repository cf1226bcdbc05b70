"""The trainer of reward models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import TrainingArguments

from trueup.models.checkpoints import save_reward_model
from trueup.models.plan import Part
from trueup.models.reward import Branches, RewardModel
from trueup.train.branch_trainer import OFFENDERS, BranchTrainer
from trueup.train.dataset import BranchDataset
from trueup.train.loader import check_units
from trueup.train.reward_step import observe_rewards, reward_batch
from trueup.train.step import Step, Tally
from trueup.types import RewardBatch, RewardObjective

__all__ = ["OFFENDERS", "RewardTrainer"]


class RewardTrainer(BranchTrainer[Branches]):
    """Trains a `RewardModel`; arguments are those of `BranchTrainer`, terms are reward objectives."""

    def __init__(
        self,
        model: RewardModel,
        args: TrainingArguments,
        *,
        terms: Sequence[RewardObjective],
        train_dataset: BranchDataset,
        **options: Any,
    ) -> None:
        check_units(terms, train_dataset)
        super().__init__(model, args, terms=terms, train_dataset=train_dataset, **options)

    def _batch(self, step: Step, part: Part, out: Branches) -> RewardBatch:
        return reward_batch(step, part, out)

    def _nothing(self, out: Branches) -> Branches:
        return replace(out, reward=out.reward[:0], hidden=out.hidden[:0])

    def _values(self, out: Branches) -> tuple[Tensor, Tensor]:
        return out.reward, torch.arange(len(out.reward), device=out.reward.device)

    def _observe(self, tally: Tally, batch: RewardBatch) -> None:
        observe_rewards(tally, batch)

    def _write(self, folder: Path, state: Mapping[str, Tensor] | None) -> None:
        model = cast(RewardModel, self.unwrapped)
        save_reward_model(
            folder, model, tokenizer=self.tokenizer, form=self.form, provenance=self.provenance, state=state
        )
