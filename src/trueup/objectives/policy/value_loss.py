"""What a value head learns by."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trueup.functional.policy_batch import given, kept_tokens, positive
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ValueLoss(Added):
    """`c/2 max((V - G)^2, (V' - G)^2)` per token, with `V' = V_old + clamp(V - V_old, -clip, clip)`.

    G are the returns that the method's `prepare` added: with PPO, advantage plus old value, before whitening.

    **Source**: the clipped value loss of OpenAI's Baselines; coefficient 1 and clip 0.2 as in Coste et al. (arXiv
    2310.02743).
    **Deviations**: none.
    **Limits**: half the squared error at `clip = None`.

    Args:
        coefficient: c above.
        clip: How far a prediction may move to its gain, in reward units; None for no limit.

    >>> from dataclasses import replace
    >>> from trueup.objectives.example import two_groups
    >>> batch = two_groups()
    >>> ValueLoss()(replace(batch, returns=batch.old_value + 2), {}).values.tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset({"value"})
    coefficient: float = 1.0
    clip: float | None = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip is not None:
            positive("clip", self.clip)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token."""
        value, returns = given(batch.value, "value"), given(batch.returns, "returns")
        error = (value - returns).square()
        if self.clip is not None:
            old = given(batch.old_value, "old_value")
            held = old + (value - old).clamp(-self.clip, self.clip)
            error = torch.maximum(error, (held - returns).square())
        return Loss(
            self.coefficient / 2 * error,
            kept_tokens(batch),
            metrics={"value_error": (value - returns).detach().square()},
        )
