"""The trainer of adapters that share a trunk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trueup.models.lora_checkpoints import read_members, save_lora_members
from trueup.models.lora_members import LoraEnsemble
from trueup.rewards.aggregates import aggregate_from
from trueup.rewards.saved_ensemble import save_ensemble
from trueup.train.ensemble_trainer import EnsembleTrainer


class LoraEnsembleTrainer(EnsembleTrainer):
    """Trains a `LoraEnsemble`: every member as it would be alone, also where its gradient is clipped."""

    def __init__(self, model: LoraEnsemble, args: TrainingArguments, **options: Any) -> None:
        clip = ClipMembers(args.max_grad_norm)
        args.max_grad_norm = 0.0  # the norm of all members together is nobody's
        super().__init__(model, args, **options | {"callbacks": [clip, *options.get("callbacks", ())]})

    def _write(self, folder: Path, state: Mapping[str, Tensor] | None) -> None:
        model = cast(LoraEnsemble, self.unwrapped)
        members = save_lora_members(
            folder, model, tokenizer=self.tokenizer, form=self.form, provenance=self.provenance, state=state
        )
        aggregate = aggregate_from(self.provenance.get("ensemble", {}).get("aggregate", {"name": "mean"}))
        save_ensemble(folder, members=members, aggregate=aggregate)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        read_members(cast(LoraEnsemble, self.unwrapped), resume_from_checkpoint)

    def _load_best_model(self) -> None:
        read_members(cast(LoraEnsemble, self.unwrapped), str(self.state.best_model_checkpoint))


class ClipMembers(TrainerCallback):
    """Clips each member's gradient by its own norm.

    Args:
        limit: Largest norm; 0 for no clipping.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Called when the step's gradient is complete; every trained weight has one row a member."""
        gradients = [p.grad for p in given["model"].parameters() if p.requires_grad and p.grad is not None]
        if not self.limit or not gradients:
            return
        norms = torch.stack([g.flatten(1).float().norm(dim=1) for g in gradients]).norm(dim=0)
        factor = (self.limit / (norms + 1e-6)).clamp(max=1.0)  # as torch's own clipping has it
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype).view(-1, *([1] * (gradient.dim() - 1))))
