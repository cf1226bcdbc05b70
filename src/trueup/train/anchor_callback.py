"""Anchors in any trainer built on transformers, TRL's among them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trueup.anchors.base import Anchor, AnchorState, Weights
from trueup.anchors.saving import load_state, save_state
from trueup.anchors.weights import live_weights, unwrap, watched, write
from trueup.errors import RecipeError

logger = logging.getLogger(__name__)


class AnchorCallback(TrainerCallback):
    """Applies an anchor after every optimiser step; its state is saved with each checkpoint and restored on resuming.

    A checkpoint at the step of a jump holds the weights after it.

    Args:
        anchor: The rule.
        reference: What the trainer computes reference log-probabilities with, given the anchor's weights whenever they
            move: a model of its own (TRL: `trainer.ref_model`), or the name of a frozen adapter of the trained model
            (TRL: "ref", which it makes for a model that came with an adapter). Needed where the anchor has one.
        reset_optimizer: Whether a jump also clears the optimiser's moments of the weights that jump.
        before_jump: Called with the step just before the policy jumps, to evaluate or save what it was.
        checkpoint: The checkpoint that is resumed, where it lies elsewhere than in the run's own output folder.

    Attributes:
        state: The weights that the anchor keeps; None before training.
    """

    def __init__(
        self,
        anchor: Anchor,
        *,
        reference: nn.Module | str | None = None,
        reset_optimizer: bool = False,
        before_jump: Callable[[int], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.anchor = anchor
        self.reference = reference
        self.reset_optimizer = reset_optimizer
        self.before_jump = before_jump
        self.checkpoint = checkpoint
        self.state: AnchorState | None = None
        self._saved_within: int | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        **_: Any,
    ) -> None:
        """Begin the anchor's state, or restore that of the checkpoint that is resumed.

        Raises:
            RecipeError: The anchor's weights would be used by nobody.
            CheckpointError: The checkpoint lacks the anchor's state.
        """
        weights = live_weights(model)
        if state.global_step:
            self.state = load_state(self._resumed(args, state), self.anchor, weights=weights, step=state.global_step)
        else:
            self.state = self.anchor.init(weights)
        if self.reference is None and self.anchor.reference(self.state) is not None:
            raise RecipeError(
                f"{type(self.anchor).__name__} is what the KL is to be measured against, but no reference is given; "
                "give reference=trainer.ref_model (TRL has one unless beta is 0 or the model has an adapter), or "
                'reference="ref" for a model that came to TRL with an adapter'
            )
        self._renew_reference(model)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        **_: Any,
    ) -> None:
        """Update the anchor; let the policy jump if it says so."""
        if self.state is None:
            raise RuntimeError("the anchor has no state: on_train_begin was never called")
        self.state, jump = self.anchor.update(self.state, live_weights(model), step=state.global_step)
        if jump is not None:
            self._jump(model, jump, optimizer=optimizer, step=state.global_step)
        self._renew_reference(model)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the anchor's state into the checkpoint, where the trainer did not do so while making it."""
        if self.state is not None and args.should_save and self._saved_within != state.global_step:
            save_state(_checkpoint(args, state), self.anchor, self.state, step=state.global_step)

    def save_within(self, checkpoint: Path, *, step: int) -> None:
        """Write the anchor's state into a checkpoint that is being made, so that both appear at once."""
        if self.state is not None:
            save_state(checkpoint, self.anchor, self.state, step=step)
            self._saved_within = step

    def _jump(self, model: nn.Module, jump: Weights, *, optimizer: Optimizer | None, step: int) -> None:
        if self.before_jump is not None:
            self.before_jump(step)
        write(model, jump)
        if self.reset_optimizer and optimizer is not None:
            for parameter in watched(model).values():
                optimizer.state.pop(parameter, None)
        logger.info("%s: the policy jumps after step %d", type(self.anchor).__name__, step)

    def _renew_reference(self, model: nn.Module) -> None:
        weights = self.anchor.reference(self.state) if self.state is not None else None
        if weights is None or self.reference is None:
            return
        if isinstance(self.reference, str):
            write(model, _for_adapter(unwrap(model), weights, name=self.reference))
        else:
            write(self.reference, weights)

    def _resumed(self, args: TrainingArguments, state: TrainerState) -> Path:
        if self.checkpoint is not None:
            return Path(self.checkpoint)
        own = _checkpoint(args, state)
        given = args.resume_from_checkpoint
        return Path(given) if given and not own.is_dir() else own


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _for_adapter(model: nn.Module, weights: Weights, *, name: str) -> Weights:
    """The same weights under the names of another adapter of the model."""
    if not isinstance(model, PeftModel) or name not in model.peft_config:
        raise RecipeError(f"the model has no adapter {name!r} for the reference; add one, or give a model of its own")
    if model.active_adapter == name:
        raise RecipeError(f"the adapter {name!r} is the one that is trained; name another for the reference")
    return {key.replace(f".{model.active_adapter}.", f".{name}."): tensor for key, tensor in weights.items()}
