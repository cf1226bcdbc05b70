"""Axes, batch views and protocols that the floors share.

Axis names, outermost first: `members` (ensemble), `prompts` or `pairs` or `branches`, `s` all tokens, `t` response
tokens, `d` hidden, `v` vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Unit = Literal["pair", "prompt", "branch", "token"]
"""What one entry of an unreduced loss is; the trainer divides by the step's number of them."""

Stats = Mapping[str, Tensor]
"""Detached sums over a step, additive over micro-batches and devices."""


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """What a reward-model objective sees: per-branch tensors, never token ids or a model.

    Args:
        reward: Reward of each branch, float32 or wider.
        hidden: Vector that enters the reward head, for each branch.
        prompt: Index of each branch's prompt within the batch.
        pairs: (chosen, rejected) as indices into `reward`.
        margin: Required margin of each pair, in reward units (0 where the data state none).
        order: Position of each pair in the whole step's order, counted over all devices and micro-batches.
        step_pairs: Number of pairs of the whole step.
        rank: Place of each branch in its prompt's ranking (0 is best), -1 where the data give none.
    """

    reward: Float[Tensor, " branches"]
    hidden: Float[Tensor, "branches d"]
    prompt: Int[Tensor, " branches"]
    pairs: Int[Tensor, "pairs 2"]
    margin: Float[Tensor, " pairs"]
    order: Int[Tensor, " pairs"]
    step_pairs: int
    rank: Int[Tensor, " branches"]

    @property
    def chosen(self) -> Float[Tensor, " pairs"]:
        """Reward of each pair's chosen branch."""
        return self.reward[self.pairs[:, 0]]

    @property
    def rejected(self) -> Float[Tensor, " pairs"]:
        """Reward of each pair's rejected branch."""
        return self.reward[self.pairs[:, 1]]


@dataclass(frozen=True)
class Loss:
    """An unreduced loss.

    Args:
        values: One value per unit, in nats where the loss is a log-likelihood.
        mask: Which units count; None means all.
        metrics: Detached per-unit values worth logging as step means.
    """

    values: Float[Tensor, " units"]
    mask: Bool[Tensor, " units"] | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class RewardObjective(Protocol):
    """One term of a reward-model loss."""

    unit: ClassVar[Unit]

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return the unreduced loss; pure and deterministic."""
        ...


@dataclass(frozen=True, kw_only=True)
class PolicyBatch:
    """What an objective of policies sees: per-token tensors of the responses, never token ids or a model.

    Given responses fill the first three fields, and preferences `pairs` as well; drawn ones those that their method
    needs. Only `logprob`, `value`,
    `entropy` and `forward_kl` carry a gradient, and none does in `prepare`.

    Args:
        logprob: Log-probability of each response token given all before it, in nats, float32 or wider.
        branch: Number of each token's branch within the batch; tokens of one branch follow one another.
        prompt: Index of each branch's prompt within the batch.
        behaviour: Log-probability of each token when it was drawn.
        reference: Log-probability of each token under the anchor.
        pairs: (chosen, rejected) as numbers of branches.
        previous: Log-probability of each token under the policy of the round before, for iterated methods.
        reward: Reward of each branch, after penalties and clipping, without any KL; beside preferences, the weighted
            sum of the rewards of other objectives.
        token_reward: What each token earns: minus the KL coefficient times (behaviour - reference), and at a branch's
            last token its reward as well.
        finished: Whether the policy ended the branch itself, rather than being cut at the length limit.
        advantage: Advantage of each token; methods of whole sequences give all tokens of a branch the same.
        returns: What the value head is to predict at each token.
        value: What it predicts.
        old_value: What it predicted when the response was drawn.
        entropy: Entropy of the next-token distribution at each token, nats.
        forward_kl: KL(reference || policy) over the whole vocabulary at each token, nats.
        kept: Which branches are learned from; None means all.
    """

    logprob: Float[Tensor, " t"]
    branch: Int[Tensor, " t"]
    prompt: Int[Tensor, " branches"]
    behaviour: Float[Tensor, " t"] | None = None
    reference: Float[Tensor, " t"] | None = None
    pairs: Int[Tensor, "pairs 2"] | None = None
    previous: Float[Tensor, " t"] | None = None
    reward: Float[Tensor, " branches"] | None = None
    token_reward: Float[Tensor, " t"] | None = None
    finished: Bool[Tensor, " branches"] | None = None
    advantage: Float[Tensor, " t"] | None = None
    returns: Float[Tensor, " t"] | None = None
    value: Float[Tensor, " t"] | None = None
    old_value: Float[Tensor, " t"] | None = None
    entropy: Float[Tensor, " t"] | None = None
    forward_kl: Float[Tensor, " t"] | None = None
    kept: Bool[Tensor, " branches"] | None = None


Need = Literal["reference", "previous", "reward", "advantage", "value", "entropy", "forward_kl"]
"""What costs another computation, and is made only for objectives that ask for it."""


@runtime_checkable
class PolicyObjective(Protocol):
    """One term of a policy's loss on given responses."""

    unit: ClassVar[Unit]
    needs: ClassVar[frozenset[Need]]

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return the unreduced loss; pure and deterministic."""
        ...


@runtime_checkable
class OnlineObjective(PolicyObjective, Protocol):
    """A method that learns from its own samples."""

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Add advantages, returns or a selection, once for all that was drawn together, before the first step."""
        ...


@runtime_checkable
class Coupled(Protocol):
    """A term whose value couples the units of a step (batch-wise sum-to-zero, for one)."""

    def statistics(self, batch: Any, /) -> Stats:
        """Return detached sums, additive over the step's micro-batches and devices."""
        ...
