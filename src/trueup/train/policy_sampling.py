"""Responses of one of our policies while it is trained, with their log-probabilities under the initial policy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trueup.data.rows import Prompt
from trueup.policies.model import ModelPolicy
from trueup.train.model_sampling import StartedSample
from trueup.train.references import Reference
from trueup.train.rollouts import rollout_row


@dataclass(frozen=True, kw_only=True)
class PolicySampler:
    """Draws as `ModelPolicy` does, and asks a reference about the very tokens that were drawn.

    Args:
        policy: The policy being trained.
        start: The initial policy: a frozen model, or the policy with its adapter switched off.
    """

    policy: ModelPolicy
    start: Reference

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[StartedSample]]:
        """Draw `count` responses to each prompt; both log-probabilities are at temperature 1, over all tokens."""
        model = self.policy.checkpoint.model
        training = model.training
        try:
            model.eval()
            asked, drawn = self.policy.draw(prompts, count, seed=seed)
            rows = [rollout_row(ids, group, index=k) for k, (ids, group) in enumerate(zip(asked, drawn, strict=True))]
            start = self.start.logprobs(rows)
        finally:
            model.train(training)
        samples = []
        for prompt, row, replies, values in zip(prompts, rows, drawn, start, strict=True):
            sums = [float(part.double().sum()) for part in torch.split(values, list(row.branch_lengths))]
            samples.append(
                [
                    StartedSample(
                        text=text,
                        tokens=len(reply.ids),
                        finished=reply.finished,
                        logprob=float(reply.policy_logprobs.astype("float64").sum()),
                        start_logprob=before,
                    )
                    for text, reply, before in zip(self.policy.texts(prompt, replies), replies, sums, strict=True)
                ]
            )
        return samples
