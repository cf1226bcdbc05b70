"""INPO: a round of self-play against the policy of the round before."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from trueup.functional.policy_batch import given
from trueup.functional.preference import margin_of_pairs, pair_loss, require, squared
from trueup.functional.segments import branch_sum
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class INPO:
    """`(h_w - h_l - 1 / (2 eta))^2` per pair, in squared nats, for responses of the policy of the round before.

    `h = log pi - (tau / eta) log pi_ref - (1 - tau / eta) log pi_previous`, of whole responses. The implied reward
    eta h is the probability of being preferred to a response of the previous policy, up to a constant of the prompt.

    **Source**: Zhang et al., "Iterative Nash policy optimization" (arXiv 2407.00617).
    **Deviations**: none in the loss. That its minimiser is the next policy of online mirror descent needs pairs drawn
    independently from the previous policy; best against worst of several, as the authors run it, bends that.
    **Limits**: its minimiser over all policies is
    `exp(P(y > pi_previous) / eta) pi_ref^(tau / eta) pi_previous^(1 - tau / eta)`, normalised. `IPO` with beta = eta
    at `tau = eta`, and at `tau = 0` IPO held to the previous policy. `1 / (4 eta^2)` where all three policies agree.

    Args:
        eta: One over the step of mirror descent; 1 / (2 eta) is in nats per response, and so 100 by default.
        tau: Strength of the KL regulariser of the game, at most eta; None for the paper's eta / 3.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in INPO(eta=1, tau=0.5)(two_preferences(), {}).values.tolist()]
    [0.0373, 0.25]
    """

    unit: ClassVar[Unit] = "pair"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "previous"})
    eta: float = 0.005
    tau: float | None = None

    def __post_init__(self) -> None:
        require(0 < self.eta < inf, "eta", self.eta, must="be positive", cure="0.002 to 0.1 was tried in the paper")
        if self.tau is not None:
            cure = "raise eta or lower tau: the previous policy cannot weigh less than nothing"
            require(0 <= self.tau <= self.eta, "tau", self.tau, must=f"lie in [0, eta = {self.eta}]", cure=cure)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        share = 1 / 3 if self.tau is None else self.tau / self.eta
        reference, previous = given(batch.reference, "reference"), given(batch.previous, "previous")
        moved = batch.logprob - share * reference - (1 - share) * previous
        ratio = branch_sum(moved, batch.branch, len(batch.prompt))
        values = squared(margin_of_pairs(ratio, batch), target=1 / (2 * self.eta))
        return pair_loss(values, self.eta * ratio, batch)
