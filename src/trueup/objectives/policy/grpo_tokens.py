"""GRPO with all tokens of a step weighing alike."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import given, kept_tokens, token_moved
from trueup.functional.surrogate import clipped_surrogate, is_clipped
from trueup.objectives.policy.group_relative import GroupRelative
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class GRPOTokens(GroupRelative):
    """`-min(w_t A, clamp(w_t, 1 - clip, 1 + clip) A)` per token, averaged over all tokens of a step.

    `A = (r - mean) / (std + 1e-4)` over the responses to its prompt, of `reward` without any KL.

    **Source**: Yu et al., "DAPO" (arXiv 2503.14476), eq. 8, of which this is the token-level loss; A as in GRPO.
    **Deviations**: one clip for both directions, no dynamic sampling, no length penalty.
    **Limits**: GRPO when all responses are equally long.

    Args:
        clip: How far w may move.
        scale: Whether A is divided by the deviation.

    >>> from trueup.objectives.example import two_groups
    >>> grpo = GRPOTokens(scale=False)
    >>> grpo(grpo.prepare(two_groups()), {}).values[:3].tolist()
    [-1.0, -1.0, 1.0]
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token."""
        advantage, moved = given(batch.advantage, "advantage"), token_moved(batch)
        values = -clipped_surrogate(moved, advantage, clip=self.clip)
        clipped = is_clipped(moved.detach(), advantage, clip=self.clip)
        return Loss(values, kept_tokens(batch), metrics={"policy_clipped": clipped.to(values.dtype)})
