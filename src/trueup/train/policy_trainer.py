"""The trainer of policies on given responses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from trueup.models.heads.value import without_value_head
from trueup.models.plan import Part
from trueup.models.policy import PolicyModel, Tokens
from trueup.models.policy_checkpoints import save_policy
from trueup.train.branch_trainer import BranchTrainer
from trueup.train.step import Step, Tally
from trueup.types import PolicyBatch


class PolicyTrainer(BranchTrainer[Tokens]):
    """Trains a `PolicyModel`; arguments are those of `BranchTrainer`, terms are objectives of policies."""

    def _batch(self, step: Step, part: Part, out: Tokens) -> PolicyBatch:
        counts = torch.tensor([len(step.rows[i].branch_lengths) for i in part], dtype=torch.int64)
        prompt = torch.repeat_interleave(torch.arange(len(counts)), counts).to(out.logprob.device)
        return PolicyBatch(logprob=out.logprob, branch=out.branch, prompt=prompt)

    def _nothing(self, out: Tokens) -> Tokens:
        names = ("logprob", "branch", "entropy", "forward_kl", "value")
        return replace(out, **{name: getattr(out, name)[:0] for name in names if getattr(out, name) is not None})

    def _values(self, out: Tokens) -> tuple[Tensor, Tensor]:
        return out.logprob, out.branch

    def _observe(self, tally: Tally, batch: PolicyBatch) -> None:
        tally.add("token_logprob", batch.logprob)

    def _write(self, folder: Path, state: Mapping[str, Tensor] | None) -> None:
        model = cast(PolicyModel, self.unwrapped)
        own = without_value_head(state) if state is not None else None
        save_policy(folder, model, tokenizer=self.tokenizer, form=self.form, provenance=self.provenance, state=own)
