"""Several rewards as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from trueup.data.rows import Prompt
from trueup.errors import DataError, NonFiniteError, RecipeError
from trueup.rewards.aggregates import Aggregate, Mean
from trueup.rewards.base import Reward, Scores

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Standardization:
    """Each member's mean and standard deviation on reference answers, in the member's own unit.

    Members are trained alone, so that their scales differ; a minimum or a variance over them means little otherwise.

    Args:
        mean: Mean reward of each member.
        std: Standard deviation (1/n) of each member.
        responses: How many reference answers there were.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    responses: int

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise RecipeError(f"standardisation has {len(self.mean)} means and {len(self.std)} standard deviations")
        wrong = [i for i, s in enumerate(self.std) if not (0 < s < math.inf and math.isfinite(self.mean[i]))]
        if wrong:
            i = wrong[0]
            raise RecipeError(
                f"member {i} has mean {self.mean[i]} and standard deviation {self.std[i]}; both must be finite and "
                "the latter positive"
            )

    @classmethod
    def measured_on(
        cls, members: Float[Array, "members responses"], *, names: Sequence[str] | None = None
    ) -> "Standardization":
        """Constants that give each member mean 0 and standard deviation 1 on these rewards of reference answers.

        Args:
            members: Each member's rewards, such as an ensemble's `Scores.members`.
            names: What messages call the members.

        Raises:
            DataError: There are fewer than two responses, or a member gives all of them the same reward.
        """
        count = members.shape[1]
        if count < 2:
            raise DataError(f"{count} reference answers", expected="at least two, to measure each member's scale on")
        std = members.std(axis=1)
        constant = np.flatnonzero(std <= 1e-12 * np.abs(members).max(axis=1))
        if len(constant):
            number = int(constant[0])
            raise DataError(
                f"{names[number] if names else f'member {number}'} gives all {count} reference answers the same reward",
                expected="rewards that differ",
                cure="leave this member out, or take other answers",
            )
        return cls(mean=tuple(members.mean(axis=1).tolist()), std=tuple(std.tolist()), responses=count)

    def __call__(self, members: Float[Array, "members responses"]) -> Float[Array, "members responses"]:
        """Return `(R_i - mean_i) / std_i`."""
        return (members - np.asarray(self.mean)[:, None]) / np.asarray(self.std)[:, None]


@dataclass(frozen=True, kw_only=True)
class EnsembleReward:
    """An aggregate of several rewards; `Scores.members` holds what it was made of.

    Lengths are those of the first member. Hidden states are no member's business but its own and are not passed on.

    Args:
        members: Two rewards or more; one is allowed, and is then the reward.
        aggregate: How they become one.
        name: What reports call it.
        standardization: Constants that bring members to one scale first; None takes them as they are, as the paper
            does.
    """

    members: Sequence[Reward]
    aggregate: Aggregate = field(default_factory=Mean)
    name: str = "ensemble"
    standardization: Standardization | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise RecipeError(f"{self.name}: an ensemble needs at least one member")
        constants = self.standardization
        if constants is not None and len(constants.mean) != len(self.members):
            raise RecipeError(
                f"{self.name}: standardisation is for {len(constants.mean)} members, there are {len(self.members)}"
            )

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i with every member.

        Raises:
            NonFiniteError: A member's reward is NaN or infinite.
        """
        members, first = _score_members(self.members, prompts, responses)
        if self.standardization is not None:
            members = self.standardization(members)
        return Scores(reward=self.aggregate(members), prompt=first.prompt, length=first.length, members=members)


def standardize_on(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
) -> Standardization:
    """Measure each member's mean and standard deviation on reference answers that nothing was trained on.

    Raises:
        DataError: There are fewer than two responses, or a member gives all of them the same reward.
        NonFiniteError: A member's reward is NaN or infinite.
    """
    members, _ = _score_members(rewards, prompts, responses)
    return Standardization.measured_on(members, names=[reward.name for reward in rewards])


def _score_members(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
) -> tuple[Float[Array, "members responses"], Scores]:
    """All members' rewards, and the first member's scores for what they have in common."""
    scored = [reward.score(prompts, responses) for reward in rewards]
    for reward, scores in zip(rewards, scored, strict=True):
        bad = np.flatnonzero(~np.isfinite(scores.reward))
        if len(bad):
            raise NonFiniteError(
                f"{reward.name} gives a reward of {scores.reward[bad[0]]} to a response in row "
                f"{scores.prompt[bad[0]] + 1} ({len(bad)} in all)"
            )
    return np.stack([np.asarray(scores.reward, float) for scores in scored]), scored[0]
