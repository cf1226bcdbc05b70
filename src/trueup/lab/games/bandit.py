"""A bandit with contexts whose data someone else has collected, for methods that learn from given rewards.

Rewards are uniform on [0, 1]. The data are drawn from `(1 - noise) softmax(sharpness r) + noise / k`. A response is two
tokens, of which there are k together, so that methods with a ratio for each token differ from those with one for the
whole; every distribution over responses can be learned. Seeds are learned side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from trueup.lab.games.descent import Descent, descend
from trueup.lab.games.responders import TokenLogprobs, Tree, batch_of, now, whole
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.priority import priority_rows
from trueup.types import PolicyObjective

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class BanditPlan:
    """How bandits are made and learned.

    Args:
        contexts: Prompts of each seed.
        first: Number of first tokens.
        second: Number of second tokens.
        samples: Responses in the data of each seed.
        sharpness: How much the data prefer high rewards.
        descent: Every training, also the reference's.
        batch: Responses of a step, of each seed.
    """

    contexts: int = 30
    first: int = 4
    second: int = 5
    samples: int = 3_000
    sharpness: float = 4.0
    descent: Descent = field(default_factory=lambda: Descent(steps=3_000, learning_rate=0.02))
    batch: int = 64


@dataclass(frozen=True, kw_only=True)
class Bandits:
    """One bandit for each seed.

    Args:
        reward: Of every response in every context.
        drawn: The data: number of each response, counted over contexts and responses of its seed.
    """

    reward: Float64[Tensor, "seeds contexts k"]
    drawn: Int[Array, "seeds samples"]

    @property
    def earned(self) -> Float64[Array, "seeds samples"]:
        """Reward of each response of the data."""
        return np.take_along_axis(self.reward.numpy().reshape(len(self.drawn), -1), self.drawn, axis=1)


def bandits(plan: BanditPlan, seeds: Sequence[int], *, noise: float) -> Bandits:
    """Draw rewards and data; those of a seed with more noise have the same rewards."""
    reward, drawn = zip(*(_bandit(plan, seed, noise) for seed in seeds), strict=True)
    return Bandits(reward=torch.from_numpy(np.stack(reward)), drawn=np.stack(drawn))


def _bandit(plan: BanditPlan, seed: int, noise: float) -> tuple[Array, Array]:
    generator, k = np.random.default_rng([seed, 6]), plan.first * plan.second
    reward = generator.random((plan.contexts, k))
    sharp = np.exp(plan.sharpness * reward)
    chances = (1 - noise) * sharp / sharp.sum(axis=1, keepdims=True) + noise / k
    context = generator.integers(plan.contexts, size=plan.samples)
    chosen = [generator.choice(k, p=chances[one]) for one in context.tolist()]
    return reward, context * k + np.array(chosen)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How to learn from the data.

    Args:
        term: The loss.
        priority: In proportion to what responses are drawn; None for all alike.
        filtered: Whether responses without a positive advantage are left out.
    """

    term: PolicyObjective
    priority: str | None = None
    filtered: bool = False


@dataclass(frozen=True, kw_only=True)
class Known:
    """What methods learn from.

    Args:
        reference: The policy that learned the data by likelihood.
        reward: Of every response of the data.
        advantage: Reward minus the reference's mean reward in the same context.
    """

    reference: TokenLogprobs
    reward: Float64[Array, "seeds samples"]
    advantage: Float64[Array, "seeds samples"]


def learn_reference(plan: BanditPlan, data: Bandits) -> tuple[nn.Module, Known]:
    """The policy of the data's likelihood, and advantages over its exact mean rewards."""
    seeds, contexts, k = data.reward.shape
    policy = Tree(prompts=seeds * contexts, first=plan.first, second=plan.second)
    rows = _uniform(plan, data)
    _descend(policy, Method(term=NegativeLogLikelihood()), data, rows=rows, plan=plan)
    reference = now(policy)
    value = (whole(reference).exp().reshape(data.reward.shape) * data.reward).sum(2).numpy()
    advantage = data.earned - np.take_along_axis(value, data.drawn // k, axis=1)
    return policy, Known(reference=reference, reward=data.earned, advantage=advantage)


def learn_method(plan: BanditPlan, data: Bandits, method: Method, *, known: Known, policy: nn.Module) -> nn.Module:
    """Go on from the reference with another loss, in place, and return the policy."""
    rows = _uniform(plan, data) if method.priority is None and not method.filtered else _rows(plan, known, method)
    _descend(policy, method, data, rows=rows, plan=plan, known=known)
    return policy


def mean_reward(data: Bandits, policy: nn.Module) -> Float64[Array, " seeds"]:
    """Exact mean reward of a policy, contexts weighing the same."""
    chances = whole(now(policy)).exp().reshape(data.reward.shape)
    return np.asarray((chances * data.reward).sum(2).mean(1))


def _uniform(plan: BanditPlan, data: Bandits) -> Int[Array, "steps seeds batch"]:
    seeds, samples = data.drawn.shape
    generator = np.random.default_rng([seeds, 7])
    return generator.integers(samples, size=(plan.descent.steps, seeds, plan.batch))


def _rows(plan: BanditPlan, known: Known, method: Method) -> Int[Array, "steps seeds batch"]:
    """Numbers of the responses of every step, drawn as the method asks."""
    worth = known.advantage if method.filtered or method.priority == "advantage" else known.reward
    count = plan.descent.steps * plan.batch
    found = []
    for seed, each in enumerate(worth):
        weight = each if method.priority is not None else (each > 0).astype(float)
        found.append(
            np.reshape(priority_rows(weight, step=0, count=count, seed=seed), (plan.descent.steps, plan.batch))
        )
    return np.stack(found, axis=1)


def _descend(
    policy: nn.Module,
    method: Method,
    data: Bandits,
    *,
    rows: Int[Array, "steps seeds batch"],
    plan: BanditPlan,
    known: Known | None = None,
) -> None:
    seeds, contexts, k = data.reward.shape
    offset = (np.arange(seeds) * contexts * k)[:, None]
    prompt = torch.arange(seeds * plan.batch)
    held = None if known is None else known.reference.flatten(0, 1)

    def loss(step: int) -> Tensor:
        place = torch.from_numpy((np.take_along_axis(data.drawn, rows[step], axis=1) + offset).ravel())
        tokens = policy().flatten(0, 1)[place]
        batch = batch_of(
            tokens,
            prompt=prompt,
            reference=None if held is None else held[place],
            reward=None if known is None else _taken(known.reward, rows[step]),
            advantage=None if known is None else _taken(known.advantage, rows[step]),
        )
        return method.term(batch, {}).values.sum() / plan.batch

    descend(policy, loss, how=plan.descent)


def _taken(values: Float64[Array, "seeds samples"], rows: Int[Array, "seeds batch"]) -> Float64[Tensor, " n"]:
    return torch.from_numpy(np.take_along_axis(values, rows, axis=1).ravel())
