"""Gradient descent on policies whose responses can all be listed, with the project's objectives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trueup.lab.games.responders import TokenLogprobs, batch_of, now
from trueup.types import PolicyObjective

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a loss is minimised.

    Args:
        steps: Steps of Adam.
        learning_rate: At the first step; it falls to a hundredth, in a cosine.
    """

    steps: int
    learning_rate: float


def descend(model: nn.Module, loss: Callable[[int], Tensor], *, how: Descent) -> None:
    """Train a policy in place.

    Args:
        model: What has the weights.
        loss: From the number of the step to the loss.
        how: How long and how fast.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=how.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps, eta_min=how.learning_rate / 100)
    for step in range(how.steps):
        optimizer.zero_grad()
        loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One objective on one set of pairs.

    Args:
        term: A loss of pairs.
        weight: How often each row was preferred to each column, for each prompt; what never was is left out.
        reward: Rewards of other objectives, for terms that need them.
        share: What the lesson counts for beside others.
    """

    term: PolicyObjective
    weight: Float64[Array, "prompts k k"]
    reward: Float64[Tensor, "prompts k"] | None = None
    share: float = 1.0


def learn(policy: nn.Module, lessons: Sequence[Lesson], *, reference: TokenLogprobs, how: Descent) -> None:
    """Minimise the sum over lessons and prompts of the mean loss over pairs.

    The policy of the round before, for terms that need it, is the policy as it is.

    Args:
        policy: Learns in place.
        lessons: What from.
        reference: Log-probabilities under the reference.
        how: Steps and rate.
    """
    parts = [_Listed(lesson, reference=reference, previous=now(policy)) for lesson in lessons]

    def loss(_: int) -> Tensor:
        tokens = policy().flatten(0, 1)
        return torch.stack([part.loss(tokens) for part in parts]).sum()

    descend(policy, loss, how=how)


class _Listed:
    """A lesson with its pairs as a list."""

    def __init__(self, lesson: Lesson, *, reference: TokenLogprobs, previous: TokenLogprobs) -> None:
        prompts, k, _ = lesson.weight.shape
        number, chosen, rejected = np.nonzero(lesson.weight)
        self.term = lesson.term
        self.pairs = torch.from_numpy(np.stack([number * k + chosen, number * k + rejected], 1))
        share = lesson.share * lesson.weight / lesson.weight.sum(axis=(1, 2), keepdims=True)
        self.share = torch.from_numpy(share[number, chosen, rejected])
        self.prompt = torch.arange(prompts).repeat_interleave(k)
        self.reference, self.previous = reference.flatten(0, 1), previous.flatten(0, 1)
        self.reward = None if lesson.reward is None else lesson.reward.flatten()

    def loss(self, tokens: Float64[Tensor, "branches length"]) -> Tensor:
        """The sum over prompts of the mean over pairs."""
        batch = batch_of(
            tokens,
            prompt=self.prompt,
            pairs=self.pairs,
            reference=self.reference,
            previous=self.previous,
            reward=self.reward,
        )
        return (self.share * self.term(batch, {}).values).sum()
