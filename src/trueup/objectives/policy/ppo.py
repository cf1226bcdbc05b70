"""PPO: clipped steps of single tokens, with advantages from a value head."""

from dataclasses import dataclass, replace
from typing import ClassVar

from trueup.errors import RecipeError
from trueup.functional.advantages import gae, whiten
from trueup.functional.policy_batch import given, kept_tokens, positive, token_moved
from trueup.functional.surrogate import clipped_surrogate, is_clipped
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class PPO:
    """`-min(w_t A_t, clamp(w_t, 1 - clip, 1 + clip) A_t)` per token, w_t its ratio to the policy that drew.

    A is the generalised advantage of `token_reward` and `old_value`. The value head learns by `ValueLoss`, a term of
    its own.

    **Source**: Schulman et al., "Proximal policy optimization algorithms" (arXiv 1707.06347), eq. 7; for text
    Ziegler et al. (arXiv 1909.08593), with whitening. Defaults are those of Coste et al. (arXiv 2310.02743).
    **Deviations**: the variance of whitening has n in its denominator. Responses cut at the length limit end there:
    no value follows.
    **Limits**: at w = 1 its gradient is that of `-A_t log pi(y_t | ...)`.

    Args:
        clip: How far w may move.
        gamma: Discount per token, in (0, 1].
        lam: From 0, one step and the next value, to 1, all that follows.
        whiten_advantages: Whether advantages get mean 0 and variance 1 over all that was drawn together.

    >>> from trueup.objectives.example import two_groups
    >>> ppo = PPO(whiten_advantages=False)
    >>> [round(x, 4) for x in ppo(ppo.prepare(two_groups()), {}).values[:2].tolist()]
    [-1.95, -1.0]
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset({"value"})
    clip: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    whiten_advantages: bool = True

    def __post_init__(self) -> None:
        positive("clip", self.clip)
        if not 0 < self.gamma <= 1:
            raise RecipeError(f"gamma must lie in (0, 1], got {self.gamma}")
        if not 0 <= self.lam <= 1:
            raise RecipeError(f"lam must lie in [0, 1], got {self.lam}")

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add advantages, and the returns that the value head is to predict."""
        advantage, returns = gae(
            given(batch.token_reward, "token_reward"),
            given(batch.old_value, "old_value"),
            batch.branch,
            gamma=self.gamma,
            lam=self.lam,
        )
        return replace(batch, advantage=whiten(advantage) if self.whiten_advantages else advantage, returns=returns)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token."""
        advantage, moved = given(batch.advantage, "advantage"), token_moved(batch)
        values = -clipped_surrogate(moved, advantage, clip=self.clip)
        clipped = is_clipped(moved.detach(), advantage, clip=self.clip)
        return Loss(values, kept_tokens(batch), metrics={"policy_clipped": clipped.to(values.dtype)})
