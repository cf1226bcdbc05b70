"""The trainer of policies on preferences, rewards or advantages of responses that others have written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import TrainingArguments

from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.models.policy import PolicyModel
from trueup.train.dataset import BranchDataset
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.reference_cache import Logprobs, Sharing, cached_logprobs
from trueup.train.step import term_name
from trueup.types import PolicyObjective

_OF_ROWS = ("reference", "previous", "reward", "advantage")
_CURES = {
    "reference": "call hold_against",
    "previous": "call hold_against",
    "reward": "give the data set rewards by with_known",
    "advantage": "give the data set advantages by with_known",
}


class PreferenceTrainer(PolicyTrainer):
    """Trains a `PolicyModel` on pairs; terms may also learn from rewards or advantages of single responses.

    What terms need beside the policy is known of the rows before the first step: log-probabilities under other models
    by `hold_against`, the rest by `BranchDataset.with_known`. Arguments are those of `PolicyTrainer`.
    """

    train_dataset: BranchDataset
    eval_dataset: BranchDataset | None

    def __init__(
        self,
        model: PolicyModel,
        args: TrainingArguments,
        *,
        terms: Sequence[PolicyObjective],
        train_dataset: BranchDataset,
        **options: Any,
    ) -> None:
        self.needs = {need for term in terms for need in term.needs}
        _check_terms(terms, train_dataset)
        super().__init__(model, args, terms=terms, train_dataset=train_dataset, **options)

    def hold_against(
        self,
        compute: Logprobs,
        *,
        model: str,
        names: Sequence[Literal["reference", "previous"]] = ("reference",),
        folder: Path | None = None,
    ) -> None:
        """Let all rows know their log-probabilities under another model, or under the policy as it is now.

        Args:
            compute: That model's log-probabilities of rows; called only where the cache has no entry.
            model: That model's fingerprint.
            names: What the model is to the terms.
            folder: Where log-probabilities are kept between runs; None to keep nothing.

        Raises:
            NonFiniteError: The model gives NaN or an infinity; the row is named.
        """
        self.train_dataset = self._compared(self.train_dataset, compute, model=model, names=names, folder=folder)
        if self.eval_dataset is not None:
            self.eval_dataset = self._compared(self.eval_dataset, compute, model=model, names=names, folder=folder)

    def _compared(
        self, dataset: BranchDataset, compute: Logprobs, *, model: str, names: Sequence[str], folder: Path | None
    ) -> BranchDataset:
        sharing = Sharing(
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            keeps=self.accelerator.is_local_main_process,
        )
        with self.compute_loss_context_manager():
            kind = self.args.device.type
            narrow = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            found = cached_logprobs(
                dataset, compute, model=model, arithmetic=f"{kind} {narrow}", folder=folder, sharing=sharing
            )
        return dataset.with_known(tokens_of=dict.fromkeys(names, found))

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: object = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """Train.

        Raises:
            RecipeError: A term needs what is not known of the rows.
        """
        for dataset in (self.train_dataset, self.eval_dataset):
            if isinstance(dataset, BranchDataset):
                _check_known(cast(Sequence[PolicyObjective], self.terms), dataset)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _wanted(self, rows: Sequence[BranchRow]) -> dict[str, Any]:
        return super()._wanted(rows) | ({"entropy": True} if "entropy" in self.needs else {})


def _check_terms(terms: Sequence[PolicyObjective], dataset: object) -> None:
    for term in terms:
        foreign = sorted(set(term.needs) - {*_OF_ROWS, "entropy"})
        if foreign:
            raise RecipeError(f"{term_name(term)} needs {foreign[0]}, which only training on own samples computes")
        if term.unit == "pair" and isinstance(dataset, BranchDataset) and not dataset.paired:
            raise RecipeError(f"{term_name(term)} needs pairs, and no row has one; give rows that state a preference")


def _check_known(terms: Sequence[PolicyObjective], dataset: BranchDataset) -> None:
    known = {*dataset.tokens_of, *dataset.branches_of}
    for term in terms:
        missing = [need for need in _OF_ROWS if need in term.needs and need not in known]
        if missing:
            raise RecipeError(f"{term_name(term)} needs `{missing[0]}` of every row; {_CURES[missing[0]]} first")
