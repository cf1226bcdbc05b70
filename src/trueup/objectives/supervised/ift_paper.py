"""IFT as the paper writes its loss."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import share
from trueup.functional.segments import branch_sum, reverse_cumsum
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class IFTPaper:
    """`sum_n sum_{i>=n} decay^(i-n) l_i` per response, which at decay 1 is `sum_i (i + 1) l_i` with i from 0.

    `l_i = -log pi(y_i | x, e_<i)` in nats, where each token before it is read as `e = (1 - mix) E(y) + mix E(g)`: E is
    the input table and g what the policy finds most likely there. The trainer reads `mix`, and the model mixes.

    **Source**: Hua et al. (ACL 2025), Intuitive Fine-Tuning (arXiv 2405.11870), dynamic relation propagation; the
    decay is the paper's for long sequences, 0.95 there.
    **Deviations**: none known.
    **Limits**: at decay 0 the summed loss of SFT, each response counted alike. Late tokens weigh most, and long
    responses far more than short ones: prefer `IFT`, which is what the authors ran.

    Args:
        mix: Share of the policy's own prediction in each response token that is read (the paper's lambda).
        decay: What each further step between two tokens is multiplied by.

    >>> import torch
    >>> losses = torch.tensor([1.0, 0.5, 2.0, 0.25])
    >>> batch = PolicyBatch(logprob=-losses, branch=torch.zeros(4, dtype=torch.long), prompt=torch.tensor([0]))
    >>> float(IFTPaper()(batch, {}).values)
    9.0
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset()
    mix: float = 0.2
    decay: float = 1.0

    def __post_init__(self) -> None:
        share("mix", self.mix)
        share("decay", self.decay)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        ahead = reverse_cumsum(-batch.logprob, batch.branch, decay=self.decay)
        return Loss(branch_sum(ahead, batch.branch, len(batch.prompt)), batch.kept)
