"""Policies for two rewards in conflict, learned from preferences of each, where every optimum is known.

One prompt a world, a few responses. The policy that is asked for maximises `w r_1 + (1 - w) r_2 - beta KL`, and is
`pi_ref e^((w r_1 + (1 - w) r_2) / beta)`, normalised. Log-ratios to the reference that a method learns are in inverse
proportion to its beta, for DPO, MODPO and mixtures of their losses alike, so that one training stands for all betas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trueup.lab.games.descent import Descent, Lesson, learn
from trueup.lab.games.matrix import Policies, kl
from trueup.lab.games.pairs import independent_pairs
from trueup.lab.games.play import bradley_terry
from trueup.lab.games.responders import Table, now, soup, whole
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.modpo import MODPO

Array = np.ndarray
BETA = 1.0
_WIDEST = 64.0


@dataclass(frozen=True, kw_only=True)
class TwoRewards:
    """Worlds of one prompt, with the preferences that are learned from.

    Args:
        rewards: Both rewards of every response, in the unit of Bradley-Terry.
        reference: The policy that pairs are drawn from.
        pairs: Of each reward, how often each row was preferred to each column.
    """

    rewards: Float64[Tensor, "2 worlds k"]
    reference: Policies
    pairs: Float64[Array, "2 worlds k k"]


@dataclass(frozen=True, kw_only=True)
class TwoRewardsPlan:
    """How worlds are made and learned.

    Args:
        responses: Responses to the prompt.
        spread: Standard deviation of each reward.
        correlation: Of the two.
        pairs: Comparisons by each reward.
        descent: Every training.
    """

    responses: int = 12
    spread: float = 2.0
    correlation: float = -0.6
    pairs: int = 2_000
    descent: Descent = field(default_factory=lambda: Descent(steps=400, learning_rate=0.1))


def two_rewards(plan: TwoRewardsPlan, seeds: Sequence[int]) -> TwoRewards:
    """Draw the worlds and their preferences."""
    rewards, reference, pairs = zip(*(_world(plan, np.random.default_rng([seed, 4])) for seed in seeds), strict=True)
    return TwoRewards(
        rewards=torch.from_numpy(np.stack(rewards, axis=1)),
        reference=torch.from_numpy(np.stack(reference)),
        pairs=np.stack(pairs, axis=1),
    )


def _world(plan: TwoRewardsPlan, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    first, other, logits = generator.standard_normal((3, plan.responses))
    second = plan.correlation * first + (1 - plan.correlation**2) ** 0.5 * other
    rewards = plan.spread * np.stack([first, second])
    chances = np.exp(logits) / np.exp(logits).sum()
    preferred = bradley_terry(torch.from_numpy(rewards))
    counts = [
        independent_pairs(chances, one, count=plan.pairs, generator=generator).counts.astype(np.float64)
        for one in preferred
    ]
    return rewards, np.log(chances), np.stack(counts)


def optimum(worlds: TwoRewards, weight: float, *, rewards: Float64[Tensor, "2 worlds k"] | None = None) -> Policies:
    """What is asked for, at beta 1: the closed form.

    Args:
        worlds: The worlds.
        weight: w, of the first reward.
        rewards: Learned ones in the place of the true.
    """
    first, second = worlds.rewards if rewards is None else rewards
    return (worlds.reference + (weight * first + (1 - weight) * second) / BETA).log_softmax(1)


def train_dpo(worlds: TwoRewards, which: int, *, how: Descent) -> Table:
    """DPO on the preferences of one reward."""
    return _trained(worlds, [Lesson(term=DPO(beta=BETA), weight=worlds.pairs[which])], how=how)


def implied(worlds: TwoRewards, policy: nn.Module) -> Float64[Tensor, "worlds k"]:
    """The reward that a policy of DPO implies."""
    return BETA * (whole(now(policy)) - worlds.reference)


def train_modpo(
    worlds: TwoRewards, weight: float, *, margin: Float64[Tensor, "worlds k"], how: Descent, which: int = 0
) -> Table:
    """MODPO on the preferences of one reward.

    Args:
        worlds: The worlds.
        weight: w, of the first reward, whichever is learned from.
        margin: The other reward, not weighted.
        how: Steps and rate.
        which: The reward whose preferences are learned from.
    """
    own = (weight, 1 - weight)[which]
    term = MODPO(beta=BETA, weight=own)
    return _trained(worlds, [Lesson(term=term, weight=worlds.pairs[which], reward=(1 - own) * margin)], how=how)


def train_mixture(worlds: TwoRewards, weight: float, *, how: Descent) -> Table:
    """DPO on the preferences of both rewards, one loss weighted against the other."""
    shares = (weight, 1 - weight)
    lessons = [
        Lesson(term=DPO(beta=BETA), weight=pairs, share=share)
        for pairs, share in zip(worlds.pairs, shares, strict=True)
    ]
    return _trained(worlds, lessons, how=how)


def soup_of(worlds: TwoRewards, policies: Sequence[nn.Module], weight: float) -> nn.Module:
    """Weights of both DPO policies, averaged."""
    return soup(policies, [weight, 1 - weight], into=Table(worlds.reference))


def _trained(worlds: TwoRewards, lessons: Sequence[Lesson], *, how: Descent) -> Table:
    policy = Table(worlds.reference)
    learn(policy, lessons, reference=now(policy), how=how)
    return policy


def at_distance(worlds: TwoRewards, policy: Policies, nats: float) -> Policies:
    """The policy with its log-ratio to the reference scaled until the KL is as large as asked.

    This is what the same method gives with the beta that leads there. A policy that puts everything on its favourite
    before it is so far stays there.
    """
    ratio = policy - worlds.reference
    low, high = torch.zeros_like(ratio[:, :1]), torch.full_like(ratio[:, :1], _WIDEST)
    for _ in range(60):
        middle = (low + high) / 2
        near = kl((worlds.reference + middle * ratio).log_softmax(1), worlds.reference)[:, None] < nats
        low, high = torch.where(near, middle, low), torch.where(near, high, middle)
    return (worlds.reference + low * ratio).log_softmax(1)


def earned(worlds: TwoRewards, policy: Policies) -> Float64[Array, "worlds 2"]:
    """Both mean rewards of a policy."""
    return np.asarray((worlds.rewards * policy.exp()).sum(2).T)
