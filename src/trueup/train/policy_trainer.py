"""The trainer of policies on given responses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from trueup.data.branches import BranchRow, joint_pairs
from trueup.models.heads.value import without_value_head
from trueup.models.mixing import shared_mix
from trueup.models.plan import Part
from trueup.models.policy import PolicyModel, Tokens
from trueup.models.policy_checkpoints import save_policy
from trueup.train.branch_trainer import BranchTrainer
from trueup.train.known_rows import known_fields
from trueup.train.step import Step, Tally
from trueup.types import PolicyBatch


class PolicyTrainer(BranchTrainer[Tokens]):
    """Trains a `PolicyModel`; arguments are those of `BranchTrainer`, terms are objectives of policies."""

    def _batch(self, step: Step, part: Part, out: Tokens) -> PolicyBatch:
        rows, device = [step.rows[i] for i in part], out.logprob.device
        counts = torch.tensor([len(row.branch_lengths) for row in rows], dtype=torch.int64)
        return PolicyBatch(
            logprob=out.logprob,
            branch=out.branch,
            prompt=torch.repeat_interleave(torch.arange(len(counts)), counts).to(device),
            pairs=torch.from_numpy(joint_pairs(rows)).to(device) if step.units["pair"] else None,
            entropy=out.entropy,
            forward_kl=out.forward_kl,
            value=out.value,
            **known_fields(step.rows, part, device=device),
        )

    def _wanted(self, rows: Sequence[BranchRow]) -> dict[str, Any]:
        mix = shared_mix(self.terms)
        return {"mix": mix} if mix else {}

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
