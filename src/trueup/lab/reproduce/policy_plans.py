"""Runs that several reproductions share, so that each is computed once."""

from dataclasses import replace

from trueup.lab.optimizing import Optimization
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.scale import Scale
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.rloo import RLOO
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.types import OnlineObjective

PPO_TERMS: tuple[OnlineObjective, ...] = (PPO(), ValueLoss())
PPO_PASSES = 2
"""Over each rollout; the papers take 4, which costs more."""

FREE = "no penalty"
"""The arm that everything is compared with: RLOO against the ordinary proxy, without any KL penalty."""


def plain(scale: Scale, seed: int, *, kl_coefficient: float = 0.0, proxy: ProxyRun | None = None) -> PolicyRun:
    """RLOO against one proxy.

    Args:
        scale: How large the reproduction is.
        seed: The world.
        kl_coefficient: Weight of the KL to the start within the reward, per nat.
        proxy: The proxy; the world's ordinary one by default.
    """
    how = Optimization(terms=(RLOO(),), kl_coefficient=kl_coefficient, seed=seed, steps=scale.policy_steps)
    return PolicyRun(proxies=(proxy or ordinary(scale, seed),), how=how)


def ordinary(scale: Scale, seed: int) -> ProxyRun:
    """The world's ordinary proxy."""
    return ProxyRun(plan=scale.proxy_plan(seed))


def by_ppo(how: Optimization) -> Optimization:
    """The same with PPO and a value head."""
    return replace(how, terms=PPO_TERMS, rhythm=replace(how.rhythm, passes=PPO_PASSES))


def varied(run: PolicyRun, **changes: object) -> PolicyRun:
    """The same run with other settings of its optimisation."""
    return replace(run, how=replace(run.how, **changes))  # type: ignore[arg-type]
