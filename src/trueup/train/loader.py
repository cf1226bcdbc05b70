"""The loader of whole optimiser steps: every device sees the same rows and computes its own share of them."""

from collections.abc import Iterator, Sequence

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.train.dataset import BranchDataset, as_step
from trueup.types import RewardObjective


class LengthGrouped(Sampler[int]):
    """Shuffled order in which the rows of one step are of like length; a function of seed and epoch alone.

    Args:
        lengths: Tokens of each row.
        step_rows: Rows of one step.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], *, step_rows: int, seed: int) -> None:
        self.lengths, self.step_rows, self.seed, self.epoch = list(lengths), step_rows, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from get_length_grouped_indices(self.lengths, self.step_rows, generator=generator)
        self.epoch += 1

    def set_epoch(self, epoch: int) -> None:
        """Go to the order of an epoch; a resumed run does."""
        self.epoch = epoch


def step_loader(
    dataset: Dataset[BranchRow], *, step_rows: int, sampler: Sampler[int], args: TrainingArguments
) -> DataLoader[BranchRow]:
    """Batches of `step_rows` rows in accelerate's seeded order, the same on every device.

    accelerate's own sharding would repeat rows where the last step cannot be divided evenly, and would divide by
    number of rows where tokens are what takes time.
    """
    loader = DataLoader(
        dataset,
        batch_size=step_rows,
        sampler=sampler,
        collate_fn=as_step,
        num_workers=args.dataloader_num_workers,
        drop_last=args.dataloader_drop_last,
    )
    prepared: DataLoader[BranchRow] = prepare_data_loader(
        loader, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=args.data_seed
    )
    return prepared


def check_arguments(args: TrainingArguments) -> None:
    """Refuse what would silently train something else.

    Raises:
        RecipeError: An argument of transformers that has no meaning here is set.
    """
    if args.gradient_accumulation_steps != 1:
        raise RecipeError(
            f"gradient_accumulation_steps must be 1, got {args.gradient_accumulation_steps}; a step is cut by tokens: "
            "set per_device_train_batch_size to the step's rows and token_budget to what fits into memory"
        )
    if args.train_sampling_strategy == "batch_rebalance":
        raise RecipeError("train_sampling_strategy must not be batch_rebalance; steps are balanced by tokens as it is")


def check_units(terms: Sequence[RewardObjective], dataset: object) -> None:
    """Refuse a loss that the data give nothing to compute from.

    Raises:
        RecipeError: A ranking loss meets data without rankings.
    """
    ranking = [type(term).__name__ for term in terms if term.unit == "prompt"]
    if ranking and isinstance(dataset, BranchDataset) and not dataset.ranked:
        raise RecipeError(
            f"{ranking[0]} needs rankings, and no row has one; set data.learn to listwise for data with scores"
        )
