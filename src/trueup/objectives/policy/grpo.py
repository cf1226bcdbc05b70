"""GRPO: rewards normalised within each prompt, tokens averaged within each response."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.policy_batch import given, token_moved
from trueup.functional.segments import branch_mean
from trueup.functional.surrogate import clipped_surrogate, is_clipped
from trueup.objectives.policy.group_relative import GroupRelative
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class GRPO(GroupRelative):
    """Mean over a response's tokens of `-min(w_t A, clamp(w_t, 1 - clip, 1 + clip) A)`, one value per response.

    `A = (r - mean) / (std + 1e-4)` over the responses to its prompt, of `reward` without any KL: the KL is a term of
    the loss, `ForwardKLk3`.

    **Source**: Shao et al., "DeepSeekMath" (arXiv 2402.03300), eq. 3; std and its 1e-4 as in TRL.
    **Deviations**: none.
    **Limits**: short responses' tokens weigh more than long ones'; `GRPOTokens` weighs all alike.

    Args:
        clip: How far w may move.
        scale: Whether A is divided by the deviation; False is the advantage of Dr. GRPO (arXiv 2503.20783).

    >>> from trueup.objectives.example import two_groups
    >>> grpo = GRPO()
    >>> [round(x, 3) for x in grpo(grpo.prepare(two_groups()), {}).values[:2].tolist()]
    [-0.707, 0.707]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        advantage, moved, count = given(batch.advantage, "advantage"), token_moved(batch), len(batch.prompt)
        values = -branch_mean(clipped_surrogate(moved, advantage, clip=self.clip), batch.branch, count)
        clipped = is_clipped(moved.detach(), advantage, clip=self.clip).to(values.dtype)
        return Loss(values, batch.kept, metrics={"policy_clipped": branch_mean(clipped, batch.branch, count)})
