"""One tabular world with everything that is run in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from trueup.divergences.occupancy import ProxyQuality, action_kl, normalized_return
from trueup.functional.penalties import KINDS
from trueup.lab.tabular.gridworld import gridworld, varied_board
from trueup.lab.tabular.guarantee import Checked, check_bounds
from trueup.lab.tabular.mdp import Problem, optimal_return
from trueup.lab.tabular.regularized import PENALTIES, Ascent, Sweep, optimize, visits
from trueup.lab.tabular.sampled import Rounds, optimize_sampled
from trueup.lab.tabular.tomato import tomato_world, varied_garden

WORLDS: Mapping[str, Callable[[int], Problem]] = {
    "gridworld": lambda seed: gridworld(varied_board(seed)),
    "tomatoes": lambda seed: tomato_world(varied_garden(seed)),
}
"""Tabular worlds by name; seed 0 is the standard one, others vary it."""


def log_grid(low: float, high: float, *, per_decade: int) -> tuple[float, ...]:
    """Evenly spaced logarithms from `10^low` to `10^high`, both included."""
    count = round((high - low) * per_decade)
    return tuple(float(10 ** (low + place / per_decade)) for place in range(count + 1))


@dataclass(frozen=True, kw_only=True)
class TabularPlan:
    """How much is run in each world.

    Args:
        multiples: Coefficients, in standard deviations of the proxy under the reference.
        near_multiples: More of them for sqrt-chi2, about one standard deviation, where it leaves the reference.
        ascent: How exact objectives are maximised; the world's seed replaces its own.
        sampled_multiples: Coefficients of the runs with a discriminator.
        rounds: Those runs; the world's seed replaces theirs.
        random_problems: Random processes on which the bounds are checked, for each seed.
        random_policies: Policies in each.
    """

    multiples: tuple[float, ...] = field(default_factory=lambda: log_grid(-3, 2, per_decade=2))
    near_multiples: tuple[float, ...] = field(default_factory=lambda: log_grid(-1, 0, per_decade=12))
    ascent: Ascent = field(default_factory=lambda: Ascent(steps=400, learning_rate=0.3, noise=0.1))
    sampled_multiples: tuple[float, ...] = field(default_factory=lambda: log_grid(-2.5, 2, per_decade=2))
    rounds: Rounds = field(default_factory=Rounds)
    random_problems: int = 400
    random_policies: int = 50


QUICK = TabularPlan(
    multiples=log_grid(-2, 1, per_decade=2),
    near_multiples=log_grid(-1, 0, per_decade=3),
    ascent=Ascent(steps=150, learning_rate=0.5, noise=0.1),
    sampled_multiples=log_grid(-2, 1, per_decade=1),
    rounds=Rounds(rounds=200, learning_rate=0.2),
    random_problems=40,
)
"""Seconds for each world: too coarse for conclusions."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One penalty in one world, by coefficient; returns are shares of the highest true return of any policy.

    Args:
        true: True returns.
        drift: KL of the action distributions from the reference's, weighted by visited states, nats; NaN where it
            was not computed.
        chi2: Chi-squared of the occupancies; likewise.
    """

    true: tuple[float, ...]
    drift: tuple[float, ...]
    chi2: tuple[float, ...]

    @property
    def best(self) -> float:
        """The highest true return."""
        return max(self.true)

    @property
    def drift_at_best(self) -> float:
        """Drift where the true return is highest."""
        return self.drift[self.true.index(self.best)]

    def best_within(self, drift: float, *, otherwise: float) -> float:
        """The highest true return at no more than this drift."""
        near = (true for true, far in zip(self.true, self.drift, strict=True) if far <= drift)
        return max(near, default=otherwise)


@dataclass(frozen=True, kw_only=True)
class TabularRun:
    """What one world gave.

    Args:
        world: Name of the world.
        seed: Its seed.
        states: Number of its states.
        quality: The proxy under the reference.
        optimum: The highest true return of any policy, normalised; the unit of all returns below.
        reference: The reference's true return.
        hacked: True return of the proxy's optimum.
        theory: True return with sqrt-chi2 at the theorem's coefficient.
        exact: By penalty.
        near: sqrt-chi2 at the coefficients at which it leaves the reference.
        sampled: By kind of step penalty, with a discriminator.
        checked: The bounds, for every policy of the exact runs.
    """

    world: str
    seed: int
    states: int
    quality: ProxyQuality
    optimum: float
    reference: float
    hacked: float
    theory: float
    exact: Mapping[str, Found]
    near: Found
    sampled: Mapping[str, Found]
    checked: Checked

    def is_good(self, true: float) -> bool:
        """Whether a true return has at least half of what can be gained over the reference."""
        return true >= (self.reference + 1) / 2


def run_tabular(world: str, seed: int, *, plan: TabularPlan) -> TabularRun:
    """Run every penalty in one world."""
    problem = WORLDS[world](seed)
    quality, optimum = problem.quality, optimal_return(problem.mdp)
    ascent = replace(plan.ascent, seed=seed)
    coefficients = [multiple * quality.sigma_proxy for multiple in plan.multiples]
    sweeps = {name: optimize(problem, name, coefficients=coefficients, ascent=ascent) for name in PENALTIES}
    ends = optimize(problem, "OM sqrt-chi2", coefficients=[0.0, quality.theory_coefficient], ascent=ascent)
    policies = torch.cat([sweep.policy for sweep in (*sweeps.values(), ends)])
    usual = normalized_return(problem.mdp.occupancy(problem.reference), problem.mdp.true)
    hacked, theory = (ends.true / optimum).tolist()
    return TabularRun(
        world=world,
        seed=seed,
        states=problem.mdp.shape[0],
        quality=quality,
        optimum=optimum,
        reference=float(usual) / optimum,
        hacked=hacked,
        theory=theory,
        exact={name: _found(problem, sweep, optimum) for name, sweep in sweeps.items()},
        near=near_reference(problem, plan, ascent=ascent),
        sampled=_sampled(problem, [m * quality.sigma_proxy for m in plan.sampled_multiples],
                         rounds=replace(plan.rounds, seed=seed), optimum=optimum),
        checked=check_bounds(problem, policies),
    )  # fmt: skip


def near_reference(problem: Problem, plan: TabularPlan, *, ascent: Ascent) -> Found:
    """sqrt-chi2 of occupancies at the plan's `near_multiples`."""
    coefficients = [multiple * problem.quality.sigma_proxy for multiple in plan.near_multiples]
    sweep = optimize(problem, "OM sqrt-chi2", coefficients=coefficients, ascent=ascent)
    return _found(problem, sweep, optimal_return(problem.mdp))


def _found(problem: Problem, sweep: Sweep, optimum: float) -> Found:
    seen = visits(problem, sweep.policy)
    drift = action_kl(seen.policy, seen.reference, states=seen.states)
    return Found(
        true=tuple((sweep.true / optimum).tolist()), drift=tuple(drift.tolist()), chi2=tuple(sweep.chi2.tolist())
    )


def _sampled(problem: Problem, coefficients: Sequence[float], *, rounds: Rounds, optimum: float) -> dict[str, Found]:
    unknown = (float("nan"),) * len(coefficients)
    found: dict[str, Found] = {}
    for kind in KINDS:
        true = optimize_sampled(problem, kind, coefficients=coefficients, rounds=rounds).true / optimum
        found[kind] = Found(true=tuple(true.tolist()), drift=unknown, chi2=unknown)
    return found
