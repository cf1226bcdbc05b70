"""The KL term of GRPO: k3, which pulls towards all that the reference says."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.divergences.estimators import k3
from trueup.functional.policy_batch import token_ratio
from trueup.functional.segments import branch_mean
from trueup.objectives.policy.added import Added
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ForwardKLk3(Added):
    """Mean over a response's tokens of `c (e^-l_t - 1 + l_t)`, `l_t = log pi(y_t) - log pi_ref(y_t)`; one per response.

    On policy its **value** is unbiased for the mean KL(pi || ref) of the next token, while its **gradient**, per token
    `(1 - e^-l_t) grad log pi(y_t)`, is that of the other direction, `KL(ref(. | y_<t) || pi(. | y_<t))`, with prefixes
    held fixed; both of them where responses are equally long, as the mean over tokens lets short ones weigh more. It is
    here as released; `ReverseKL` and `ForwardKL` descend what they are named after.

    **Source**: Shao et al., "DeepSeekMath" (arXiv 2402.03300), eq. 4; k3 of Schulman (2020).
    **Deviations**: none.
    **Limits**: TRL's `beta` term of `loss_type="grpo"`.

    Args:
        coefficient: c above, beta in the paper.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in ForwardKLk3(coefficient=1)(two_groups(), {}).values.tolist()]
    [0.1931, 0.0, 0.1931, 0.0966]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})
    coefficient: float = 0.04

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        values = branch_mean(k3(token_ratio(batch)), batch.branch, len(batch.prompt))
        return Loss(self.coefficient * values, batch.kept)
