"""A policy: a causal language model of transformers, read as log-probabilities of each response's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from trueup.data.branches import BranchRow
from trueup.functional.logprobs import token_logprobs
from trueup.models.branch_model import BranchModel
from trueup.models.branching import Layout, targets_of
from trueup.models.sharing import Sharing


@dataclass(frozen=True)
class Tokens:
    """What a policy says of each response token, in the order of the rows, their branches and their tokens.

    Args:
        logprob: Log-probability given everything before the token, in nats, float32 or wider.
        branch: Number of each token's branch.
    """

    logprob: Float[Tensor, " t"]
    branch: Int[Tensor, " t"]


class PolicyModel(BranchModel):
    """A causal language model whose prompt is computed once for all its responses.

    Args:
        pretrained: An `AutoModelForCausalLM`, or a PEFT model around one.
        sharing: How branches are computed; chosen from the model and device when None.
    """

    def __init__(self, pretrained: PreTrainedModel | PeftModel, *, sharing: Sharing | None = None) -> None:
        super().__init__(pretrained, causal=True, sharing=sharing)

    def forward(self, layout: Layout) -> Tokens:
        """Log-probabilities of all response tokens of a layout made by `self.layout`."""
        source, target, branch = targets_of(layout)
        wanted = layout.input_ids.flatten()[target]
        if self.sharing == "separate":
            # The model's own way to its logits, which is what the start-up check holds the short cut against.
            logits = self.core(layout.input_ids, attention_mask=layout.real.long(), use_cache=False).logits
            read = logits.flatten(0, 1)[source]
            return Tokens(token_logprobs(read, wanted, lambda scores: scores, vocabulary=logits.shape[-1]), branch)
        hidden = self.states(layout)[source]
        return Tokens(token_logprobs(hidden, wanted, self.logits, vocabulary=self.vocabulary), branch)

    @property
    def vocabulary(self) -> int:
        """Number of tokens the output layer knows."""
        return int(self.core.get_output_embeddings().weight.shape[0])

    def logits(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, "t v"]:
        """Output layer, with the scaling and squashing that some families add to it."""
        config: Any = self.core.config.get_text_config()
        scores: Tensor = self.core.get_output_embeddings()(hidden)
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        if scale != 1.0:  # A product with one costs as much as the output layer of a small model.
            scores = scores * scale
        cap = getattr(config, "final_logit_softcapping", None)
        return scores if cap is None else cap * torch.tanh(scores / cap)

    def probe(self, rows: Sequence[BranchRow]) -> Tensor:
        """The log-probabilities."""
        logprob: Tensor = self(self.layout(rows)).logprob
        return logprob
