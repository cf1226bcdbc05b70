"""KL of the policy's next token from the reference's, by k2."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import k2
from trueup.functional.policy_batch import kept_tokens, token_ratio
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ReverseKLk2(Added):
    """`c l_t^2 / 2` per token, `l_t = log pi(y_t) - log pi_ref(y_t)`: its gradient is `l_t grad log pi(y_t)`.

    On policy this is the gradient of `sum_t KL(pi(. | y_<t) || ref(. | y_<t))` with the prefixes y_<t held fixed: that
    a token changes which prefixes come after it is left out, unlike in `ReverseKL`. The value is biased.

    **Source**: k2 of Schulman (2020), Approximating KL divergence.
    **Deviations**: none.
    **Limits**: the gradient of `ReverseKL` for responses of one token.

    Args:
        coefficient: c above, for the mean over all tokens of a step.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ReverseKLk2(coefficient=1)(two_groups(), {}).values.tolist()]
    [0.2402, 0.2402, 0.0, 0.2402, 0.2402, 0.0]
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.05

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token."""
        return Loss(self.coefficient * k2(token_ratio(batch)), kept_tokens(batch))
