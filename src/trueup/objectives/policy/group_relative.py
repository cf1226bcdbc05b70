"""What both forms of GRPO have in common: advantages."""

from dataclasses import dataclass, replace

from trueup.functional.advantages import group_normalized
from trueup.functional.policy_batch import given, positive
from trueup.types import PolicyBatch


@dataclass(frozen=True, kw_only=True)
class GroupRelative:
    """Rewards normalised within each prompt, without any KL.

    Args:
        clip: How far a token's ratio may move.
        scale: Whether advantages are divided by the group's standard deviation.
    """

    clip: float = 0.2
    scale: bool = True

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add advantages."""
        advantage = group_normalized(given(batch.reward, "reward"), batch.prompt, scale=self.scale)
        return replace(batch, advantage=advantage[batch.branch])
