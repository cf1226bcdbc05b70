"""A finite decision process with a true reward and a proxy, and reference policies for it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.divergences.occupancy import ProxyQuality, occupancy, proxy_quality

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Mdp:
    """States, actions, and what they lead to; all tensors in float64.

    Args:
        transition: Probability of each next state after each action in each state.
        start: Distribution of the first state.
        gamma: Discount, at least 0 and below 1.
        true: The reward that is meant, of each action in each state; never optimised.
        proxy: The reward that is optimised.

    Raises:
        ValueError: Shapes differ, or probabilities are negative or do not sum to one.
    """

    transition: Float[Tensor, "s a s"]
    start: Float[Tensor, " s"]
    gamma: float
    true: Float[Tensor, "s a"]
    proxy: Float[Tensor, "s a"]

    def __post_init__(self) -> None:
        states, actions = self.true.shape
        shapes = {
            "transition": (self.transition, (states, actions, states)),
            "start": (self.start, (states,)),
            "proxy": (self.proxy, (states, actions)),
        }
        for name, (tensor, expected) in shapes.items():
            if tuple(tensor.shape) != expected:
                raise ValueError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
        for name in ("transition", "start"):
            given: Tensor = getattr(self, name)
            if bool((given < 0).any()) or float((given.sum(-1) - 1).abs().max()) > _ROUNDING:
                raise ValueError(f"{name} must hold probabilities that sum to one")

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of states and of actions."""
        return self.true.shape[0], self.true.shape[1]

    def occupancy(self, policy: Float[Tensor, "*b s a"]) -> Float[Tensor, "*b s a"]:
        """Occupancy measure of a policy, or of each of a batch."""
        return occupancy(policy, self.transition, start=self.start, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A decision process and the policy that optimisation is held to.

    Args:
        mdp: The process.
        reference: Probability of each action in each state; none is zero.
    """

    mdp: Mdp
    reference: Float[Tensor, "s a"]

    @property
    def quality(self) -> ProxyQuality:
        """Correlation and spreads of proxy and true reward under the reference."""
        return proxy_quality(self.mdp.occupancy(self.reference), true=self.mdp.true, proxy=self.mdp.proxy)


def soft_optimal(mdp: Mdp, *, temperature: float, tolerance: float = 1e-10) -> Float[Tensor, "s a"]:
    """The policy that maximises the discounted true reward plus `temperature` times the entropy of its actions.

    Soft value iteration: `Q = R + gamma P V`, `V = T log sum_a exp(Q / T)`, until no value changes by more than
    `tolerance`.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    values = torch.zeros_like(mdp.start)
    while True:
        advice = (mdp.true + mdp.gamma * mdp.transition @ values) / temperature
        found = temperature * torch.logsumexp(advice, -1)
        if float((found - values).abs().max()) <= tolerance:
            return torch.softmax(advice, -1)
        values = found


def optimal_return(mdp: Mdp, *, tolerance: float = 1e-12) -> float:
    """The highest normalised true return of any policy, by value iteration."""
    values = torch.zeros_like(mdp.start)
    while True:
        found = (mdp.true + mdp.gamma * mdp.transition @ values).amax(-1)
        if float((found - values).abs().max()) <= tolerance:
            return float((1 - mdp.gamma) * mdp.start @ found)
        values = found


def explorative(policy: Float[Tensor, "s a"], *, share: float) -> Float[Tensor, "s a"]:
    """The policy mixed with a share of uniformly random actions, so that it visits whatever can be visited."""
    return (1 - share) * policy + share / policy.shape[-1]
