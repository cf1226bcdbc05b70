"""The reward that a policy trained on preferences implies, against held-out pairs.

DPO's policy and reference are a reward model: `r(x, y) = beta (log pi(y | x) - log pi_ref(y | x))` up to a constant for
each prompt. Other methods imply other functions of the same two numbers, so the function is an argument. Measured as
a reward model's is (`ranking`, `calibration`), and beside it how the likelihoods moved, since a margin may also grow
while both responses become less likely.

**Source** Rafailov et al. (2023), Direct Preference Optimization, arXiv 2305.18290, equation 5; falling likelihoods:
Pal et al. (2024), Smaug, arXiv 2402.13228.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling, proportions, ratios, sum_by
from trueup.measure.calibration import Calibration, calibration
from trueup.measure.ranking import accuracy, ties
from trueup.measure.scored import Array, Estimate, ScoredSplit

Implicit = Callable[[Float[Array, " branches"], Float[Array, " branches"]], Float[Array, " branches"]]
"""From log-probabilities under policy and reference, nats a response, to rewards in nats of log-odds."""


@dataclass(frozen=True)
class LogRatio:
    """`beta (log pi - log pi_ref)`, the implicit reward of DPO and of most of its relatives.

    Args:
        beta: The method's KL coefficient, positive.
    """

    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise RecipeError(f"beta must be positive and finite, got {self.beta}")

    def __call__(
        self, policy: Float[Array, " branches"], reference: Float[Array, " branches"]
    ) -> Float[Array, " branches"]:
        """Reward of each branch."""
        return self.beta * (policy - reference)


class ImplicitReward(NamedTuple):
    """An implicit reward on held-out pairs.

    Args:
        accuracy: Share of pairs whose chosen response has the higher reward; a tie is no win.
        ties: Pairs of equal rewards.
        margin: Mean reward of chosen minus rejected.
        chosen: Mean of `log pi - log pi_ref` of chosen responses, nats; negative where they became less likely.
        rejected: The same of rejected ones.
        chosen_less_likely: Share of pairs whose chosen response is less likely than under the reference.
        reference_accuracy: Share of pairs whose chosen response the reference alone finds likelier; what is beyond it
            was learned.
        calibration: How far `sigmoid(margin)` says how often the reward is right.
    """

    accuracy: Estimate
    ties: int
    margin: Estimate
    chosen: Estimate
    rejected: Estimate
    chosen_less_likely: Estimate
    reference_accuracy: Estimate
    calibration: Calibration


def implicit_split(
    policy: Float[Array, " branches"],
    reference: Float[Array, " branches"],
    *,
    implicit: Implicit,
    prompt: Int[Array, " branches"],
    pairs: Int[Array, "pairs 2"],
    length: Num[Array, " branches"],
    name: str = "held-out pairs",
) -> ScoredSplit:
    """Implicit rewards in the form that every measure of rewards reads (length bias, for one).

    Args:
        policy: Log-probability of each branch under the policy, nats a response.
        reference: The same under the reference.
        implicit: The method's implicit reward.
        prompt: Prompt of each branch, 0..prompts-1, non-decreasing.
        pairs: (chosen, rejected) as numbers of branches.
        length: Tokens of each branch.
        name: What reports call it.

    Raises:
        DataError: A log-probability is missing or not finite, or there are no pairs.
        RecipeError: The implicit reward is not one finite number for each branch.
    """
    for field, values in (("policy", policy), ("reference", reference)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            found = f"{values[bad[0]]} for branch {bad[0]}"
            raise DataError(found, field=field, expected="a finite log-probability")
    if not len(pairs):
        raise DataError("there are no pairs", expected="at least one chosen and rejected response to a prompt")
    reward = np.asarray(implicit(policy.astype(np.float64), reference.astype(np.float64)), np.float64)
    if reward.shape != policy.shape or not np.isfinite(reward).all():
        raise RecipeError(f"the implicit reward must be one finite number for each of {len(policy)} branches")
    return ScoredSplit(name=name, reward=reward, prompt=prompt, pairs=pairs, length=length.astype(np.float64))


def implicit_reward(
    policy: Float[Array, " branches"],
    reference: Float[Array, " branches"],
    *,
    implicit: Implicit,
    prompt: Int[Array, " branches"],
    pairs: Int[Array, "pairs 2"],
    length: Num[Array, " branches"],
    resampling: Resampling,
) -> ImplicitReward:
    """Measure an implicit reward on pairs that were not trained on, with intervals by resampling prompts.

    Arguments and errors are those of `implicit_split`.
    """
    split = implicit_split(policy, reference, implicit=implicit, prompt=prompt, pairs=pairs, length=length)
    moved = (policy.astype(np.float64) - reference.astype(np.float64))[pairs]
    before = reference[pairs[:, 0]] > reference[pairs[:, 1]]
    unit = prompt[pairs[:, 0]]
    held = sum_by(np.ones(len(pairs)), unit, split.prompts)
    means = sum_by(np.stack([split.margin, *moved.T], axis=1), unit, split.prompts)
    shares = sum_by(np.stack([moved[:, 0] < 0, before], axis=1).astype(np.float64), unit, split.prompts)
    margin, chosen, rejected = ratios(means, np.repeat(held, 3, axis=1), resampling=resampling)
    less_likely, reference_accuracy = proportions(shares, np.repeat(held, 2, axis=1), resampling=resampling)
    return ImplicitReward(
        accuracy=accuracy(split, resampling=resampling),
        ties=ties(split),
        margin=margin,
        chosen=chosen,
        rejected=rejected,
        chosen_less_likely=less_likely,
        reference_accuracy=reference_accuracy,
        calibration=calibration(split, resampling=resampling),
    )
