"""A reward model: a transformers sequence classifier, read at each branch's last token."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.functional.gradients import scale_gradient
from trueup.models.branch_model import BranchModel
from trueup.models.branching import Layout
from trueup.models.sharing import Sharing, is_causal

_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm")


@dataclass(frozen=True)
class Branches:
    """What a reward model says of each branch, in the order of the rows and their branches.

    Args:
        reward: Scalar reward, float32 or wider; the mean over members where there are several.
        hidden: Vector that enters the head (after the final normalisation, where the model has one); the mean over
            members where each has its own.
        before_norm: Euclidean norm of that vector before the final normalisation; None unless asked for.
        members: Rewards of an ensemble's members.
        member_hidden: Each member's own vector, where they do not share one.
    """

    reward: Float[Tensor, " branches"]
    hidden: Float[Tensor, "branches d"]
    before_norm: Float[Tensor, " branches"] | None = None
    members: Float[Tensor, "members branches"] | None = None
    member_hidden: Float[Tensor, "members branches d"] | None = None


class RewardModel(BranchModel):
    """A reward model whose prompt is computed once for all its responses.

    Args:
        pretrained: An `AutoModelForSequenceClassification` with one label a member, or a PEFT model around one.
        sharing: How branches are computed; chosen from the model and device when None.
        members: Number of heads; several are an ensemble on one trunk (`trueup.models.heads.ensemble`).
    """

    reads_last_only = True

    def __init__(
        self, pretrained: PreTrainedModel | PeftModel, *, sharing: Sharing | None = None, members: int = 1
    ) -> None:
        core = pretrained.get_base_model() if isinstance(pretrained, PeftModel) else pretrained
        super().__init__(pretrained, causal=is_causal(core), sharing=sharing)
        self.members = members

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, [members, d]."""
        return find_head(self.core, outputs=self.members)

    def probe(self, rows: Sequence[BranchRow]) -> Tensor:
        """The vectors that enter the head."""
        hidden: Tensor = self(self.layout(rows)).hidden
        return hidden

    def forward(self, layout: Layout, *, before_norm: bool = False) -> Branches:
        """Rewards of all branches of a layout made by `self.layout`."""
        if not self.causal:
            return self._forward_encoder(layout)
        with _captured(_final_norm(self.core.base_model) if before_norm else None) as seen:
            hidden = self.states(layout)[layout.last]
        norm = seen[0].flatten(0, 1)[layout.last].float().norm(dim=-1) if seen else None
        return self._read(hidden, norm)

    def _forward_encoder(self, layout: Layout) -> Branches:
        """Bidirectional models pool in their own way; what enters their last linear layer is recorded."""
        pad = self.core.config.get_text_config().pad_token_id or 0
        with _captured(self.head) as seen:
            self.core(input_ids=layout.input_ids.masked_fill(~layout.real, pad), attention_mask=layout.real.long())
        # Heads that are applied to every token are read by mask here too.
        hidden = seen[0].flatten(0, 1)[layout.last] if seen[0].dim() == 3 else seen[0]
        return self._read(hidden)

    def _read(self, hidden: Float[Tensor, "branches d"], norm: Tensor | None = None) -> Branches:
        """Apply the head in float32 or wider: bfloat16 rewards of size 10 come in steps of 0.06."""
        head = self.head
        wide = torch.promote_types(hidden.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = (None if w is None else self._own_pace(w.to(wide)) for w in (head.weight, head.bias))
            if self.members == 1:
                reward = hidden.to(wide) @ weight[0]
                return Branches(reward if bias is None else reward + bias, hidden, norm)
            rewards = weight @ hidden.to(wide).T
            rewards = rewards if bias is None else rewards + bias[:, None]
        return Branches(rewards.mean(0), hidden, norm, rewards)

    def _own_pace(self, weight: Tensor) -> Tensor:
        """Weights whose gradient, in training, is that of the member's own loss instead of its share of the mean.

        The loss of an ensemble is the mean over members: so the trunk learns at one model's pace. A head's share of
        the mean is 1/members of its own loss, and plain gradient descent would teach it that much more slowly.
        """
        if not self.training or self.members == 1:
            return weight
        return scale_gradient(weight, self.members)


def find_head(core: nn.Module, *, outputs: int = 1) -> nn.Linear:
    """The layer whose output is the reward: `score` of causal models, the last linear of `classifier` elsewhere."""
    head = getattr(core, "score", None) or getattr(core, "classifier", None)
    if head is not None and hasattr(head, "modules_to_save"):
        head = head.modules_to_save[head.active_adapter]
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)] if head is not None else []
    if not linears or linears[-1].out_features != outputs:
        wanted = "a single output" if outputs == 1 else f"{outputs} outputs"
        raise TypeError(f"{type(core).__name__} has no head with {wanted}")
    return linears[-1]


def _final_norm(trunk: nn.Module) -> nn.Module | None:
    """The trunk's last normalisation, if it has one under a known name."""
    places = [trunk, getattr(trunk, "decoder", None), getattr(trunk, "language_model", None)]
    found = (getattr(place, name, None) for place in places if place is not None for name in _NORMS)
    return next((module for module in found if isinstance(module, nn.Module)), None)


@contextlib.contextmanager
def _captured(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module while it runs."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
