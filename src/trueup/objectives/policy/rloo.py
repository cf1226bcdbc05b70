"""RLOO: each response against the others to its prompt."""

from dataclasses import dataclass, replace
from typing import ClassVar

from trueup.functional.advantages import leave_one_out
from trueup.functional.policy_batch import given, positive, token_moved
from trueup.functional.segments import branch_sum, shared_value
from trueup.functional.surrogate import clipped_surrogate, is_clipped
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class RLOO:
    """`-min(w A, clamp(w, 1 - clip, 1 + clip) A)` per response.

    w = pi(y | x) / pi_drawn(y | x) is the ratio of the whole response, `A_j = R_j - mean of the others' R` of its
    prompt, and R the sum of `token_reward`: the reward less the KL coefficient times log pi - log pi_ref.

    **Source**: Ahmadian et al., "Back to basics" (arXiv 2402.14740), section 3; with sequence ratio and clip as in
    Hong, Lee et al. (arXiv 2505.07271), section 5.2.
    **Deviations**: none.
    **Limits**: at w = 1, so always at a collection's first step, its gradient is that of `-A log pi(y | x)`, which is
    unbiased for the expected R. With two responses `A = R_1 - R_2` and its negative.

    Args:
        clip: How far w may move; None for `-w A`.

    >>> from trueup.objectives.example import two_groups
    >>> rloo = RLOO()
    >>> rloo(rloo.prepare(two_groups()), {}).values[:2].tolist()
    [-2.0, 2.0]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()
    clip: float | None = 0.2

    def __post_init__(self) -> None:
        if self.clip is not None:
            positive("clip", self.clip)

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add leave-one-out advantages."""
        total = branch_sum(given(batch.token_reward, "token_reward"), batch.branch, len(batch.prompt))
        return replace(batch, advantage=leave_one_out(total, batch.prompt)[batch.branch])

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        count = len(batch.prompt)
        advantage = shared_value(given(batch.advantage, "advantage"), batch.branch, count)
        moved = branch_sum(token_moved(batch), batch.branch, count)
        values = -clipped_surrogate(moved, advantage, clip=self.clip)
        clipped = is_clipped(moved.detach(), advantage, clip=self.clip)
        return Loss(values, batch.kept, metrics={"policy_clipped": clipped.to(values.dtype)})
