"""IFT: likelihood after prefixes that are partly the policy's own, each token weighted by the losses to come."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import share
from trueup.functional.propagation import future_weights
from trueup.functional.segments import branch_mean
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class IFT:
    """`(1/T) sum_i w_i l_i` per response of T tokens, `w_i = T c_i / sum_k c_k`, `c_i = sum_{j>=i} gamma^(j-i) l_j`.

    `l_i = -log pi(y_i | x, e_<i)` in nats, where each token before it is read as `e = (1 - mix) E(y) + mix E(g)`: E is
    the input table and g what the policy finds most likely there. The trainer reads `mix`, and the model mixes.

    **Source**: Hua et al. (ACL 2025), Intuitive Fine-Tuning (arXiv 2405.11870); the loss of Intuitive-Fine-Tuning, the
    authors' code, which is what they ran: propagation of the loss from the left, norm L1.
    **Deviations**: none known; mix is constant, as in their main runs.
    **Limits**: at gamma 0 and mix 0 the mean over a response's tokens of SFT, each response counted alike. At gamma 0
    w is 1, which is no limit of gamma towards 0. Weights favour tokens that much loss follows, so early ones:
    `IFTPaper` favours late ones. There is no reward in it; what it learns is what the data hold.

    Args:
        mix: Share of the policy's own prediction in each response token that is read (the paper's lambda).
        gamma: How far ahead losses are looked at.
        detach: Whether the gradient leaves the weights out; in the authors' code it goes through them.

    >>> import torch
    >>> losses = torch.tensor([1.0, 0.5, 2.0, 0.2])
    >>> batch = PolicyBatch(logprob=-losses, branch=torch.zeros(4, dtype=torch.long), prompt=torch.tensor([0]))
    >>> round(float(IFT()(batch, {}).values), 4)
    1.0878
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()
    mix: float = 0.2
    gamma: float = 0.95
    detach: bool = False

    def __post_init__(self) -> None:
        share("mix", self.mix)
        share("gamma", self.gamma)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        loss, count = -batch.logprob, len(batch.prompt)
        weight = future_weights(loss.detach() if self.detach else loss, batch.branch, count, gamma=self.gamma)
        return Loss(branch_mean(weight * loss, batch.branch, count), batch.kept)
