"""A policy: a causal language model of transformers, read as log-probabilities of each response's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.functional.greedy import most_likely
from trueup.functional.logprobs import Logits, OtherStates, read_tokens
from trueup.models.branch_model import BranchModel, read_by
from trueup.models.branching import Layout, targets_of
from trueup.models.mixing import mixed_inputs
from trueup.models.sharing import Sharing


@dataclass(frozen=True)
class Tokens:
    """What a policy says of each response token, in the order of the rows, their branches and their tokens.

    Args:
        logprob: Log-probability given everything before the token, in nats, float32 or wider.
        branch: Number of each token's branch.
        entropy: Entropy of the distribution that the token is one of, in nats; where asked for.
        forward_kl: KL(reference || policy) over the vocabulary at the token, in nats; where a reference was given.
        value: What the value head says before the token is known; where asked for.
    """

    logprob: Float[Tensor, " t"]
    branch: Int[Tensor, " t"]
    entropy: Float[Tensor, " t"] | None = None
    forward_kl: Float[Tensor, " t"] | None = None
    value: Float[Tensor, " t"] | None = None


class _States(NamedTuple):
    """What is read at the slots that predict each response token.

    Args:
        read: What the output layer is given.
        hidden: What the value head is given; None where it was not asked for.
        logits: The output layer.
        vocabulary: Number of logits per token.
    """

    read: Float[Tensor, "t d"]
    hidden: Float[Tensor, "t e"] | None
    logits: Logits
    vocabulary: int


class PolicyModel(BranchModel):
    """A causal language model whose prompt is computed once for all its responses.

    Args:
        pretrained: An `AutoModelForCausalLM`, or a PEFT model around one.
        sharing: How branches are computed; chosen from the model and device when None.
    """

    def __init__(self, pretrained: PreTrainedModel | PeftModel, *, sharing: Sharing | None = None) -> None:
        super().__init__(pretrained, causal=True, sharing=sharing)
        self.value_head: nn.Module | None = None
        """Predicts returns from the states that predict tokens; `trueup.models.heads.value` attaches it."""

    def forward(
        self,
        layout: Layout,
        *,
        entropy: bool = False,
        value: bool = False,
        reference: OtherStates | Literal["base"] | None = None,
        mix: float = 0.0,
    ) -> Tokens:
        """What the policy says of all response tokens of a layout made by `self.layout`.

        Args:
            layout: Prompts and responses.
            entropy: Whether each token's entropy is computed.
            value: Whether the value head is read. Where gradients are exchanged between devices, it must be read and
                used in every pass, or in none.
            reference: The model that the whole distributions are compared with: its states of the same tokens, as
                `reference_states` makes them, or "base" for this model without its adapter.
            mix: Share of the policy's own prediction in each response token that is read, found by a pass without
                gradient; the input embeddings are then not learned through what is read.
        """
        source, target, branch = targets_of(layout)
        other = self._base_states(layout, source) if reference == "base" else reference
        inputs = self._mixed_inputs(layout, (source, target), mix=mix) if mix else None
        states = self._reading_states(layout, source, hidden=value, inputs=inputs)
        read = read_tokens(
            states.read,
            layout.input_ids.flatten()[target],
            states.logits,
            vocabulary=states.vocabulary,
            entropy=entropy,
            other=other,
        )
        values = self._values(states.hidden) if value else None
        return Tokens(read.logprob, branch, entropy=read.entropy, forward_kl=read.forward_kl, value=values)

    def _reading_states(
        self, layout: Layout, source: Tensor, *, hidden: bool, bare: bool = False, inputs: Tensor | None = None
    ) -> "_States":
        """States at the slots that predict each response token, and how they become logits."""
        if self.sharing != "separate":
            states = self.states(layout, inputs=inputs)[source]
            return _States(states, states, partial(self.logits, bare=bare), self.vocabulary)
        # The model's own way to its logits, which is what the start-up check holds the short cut against.
        read = read_by(layout, inputs)
        out = self.core(**read, attention_mask=layout.real.long(), use_cache=False, output_hidden_states=hidden)
        last = out.hidden_states[-1].flatten(0, 1)[source] if hidden else None
        return _States(out.logits.flatten(0, 1)[source], last, _as_they_are, out.logits.shape[-1])

    def _mixed_inputs(self, layout: Layout, slots: tuple[Tensor, Tensor], *, mix: float) -> Tensor:
        source, target = slots
        with torch.no_grad():
            states = self._reading_states(layout, source, hidden=False)
            predicted = most_likely(states.read, states.logits, vocabulary=states.vocabulary)
        return mixed_inputs(self.core.get_input_embeddings(), layout.input_ids, target, predicted, mix=mix)

    @torch.no_grad()
    def _base_states(self, layout: Layout, source: Tensor) -> OtherStates:
        if not isinstance(self.pretrained, PeftModel):
            raise ValueError("the policy has no adapter that could be left out; give the reference's states instead")
        with self.pretrained.disable_adapter():
            states = self._reading_states(layout, source, hidden=False, bare=True)
        return OtherStates(states.read, states.logits)

    def _values(self, hidden: Tensor | None) -> Float[Tensor, " t"]:
        if self.value_head is None:
            raise ValueError("the policy has no value head; give it one by with_value_head")
        values: Tensor = self.value_head(hidden)
        return values

    @property
    def vocabulary(self) -> int:
        """Number of tokens the output layer knows."""
        return int(self.core.get_output_embeddings().weight.shape[0])

    def logits(self, hidden: Float[Tensor, "t d"], *, bare: bool = False) -> Float[Tensor, "t v"]:
        """Output layer, with the scaling and squashing that some families add to it.

        Args:
            hidden: States of the last layer.
            bare: Whether an adapter of the output layer is left out.
        """
        config: Any = self.core.config.get_text_config()
        layer = self.core.get_output_embeddings()
        scores: Tensor = (_without_adapter(layer) if bare else layer)(hidden)
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        if scale != 1.0:  # A product with one costs as much as the output layer of a small model.
            scores = scores * scale
        cap = getattr(config, "final_logit_softcapping", None)
        return scores if cap is None else cap * torch.tanh(scores / cap)

    def probe(self, rows: Sequence[BranchRow]) -> Tensor:
        """The log-probabilities."""
        logprob: Tensor = self(self.layout(rows)).logprob
        return logprob


@torch.no_grad()
def reference_states(model: PolicyModel, rows: Sequence[BranchRow]) -> OtherStates:
    """A reference's states for the response tokens of some rows, with which a policy's forward pass is compared.

    The reference places the rows in its own way; the order of the tokens is that of the rows, whatever the way.

    Args:
        model: The reference, as it is: not wrapped for several devices.
        rows: The rows that the policy is given.
    """
    layout = model.layout(rows)
    states = model._reading_states(layout, targets_of(layout)[0], hidden=False)
    return OtherStates(states.read, states.logits)


def _as_they_are(scores: Tensor) -> Tensor:
    return scores


def _without_adapter(layer: nn.Module) -> nn.Module:
    if isinstance(layer, BaseTunerLayer):
        return layer.get_base_layer()
    original: nn.Module = getattr(layer, "original_module", layer)  # a copy that is trained whole
    return original
