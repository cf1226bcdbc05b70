"""What the tabular worlds say of correlated proxies: claims, tables and a figure.

**Source** Laidlaw, Singhal, Dragan (2025), Correlated Proxies: A New Definition and Improved Mitigation for Reward
Hacking, arXiv 2403.03185; version 1 is "Preventing Reward Hacking with Occupancy Measure Regularization".
"""

import math
from collections.abc import Callable, Mapping, Sequence

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.tabular.guarantee import NOTHING, Checked
from trueup.lab.tabular.regularized import PENALTIES
from trueup.lab.tabular.runs import TabularPlan, TabularRun
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, judge
from trueup.report.sweeps import CoefficientPanel, coefficient_sweeps
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Laidlaw et al. 2025"
OURS = "OM sqrt-chi2"
FIGURE = "correlated-proxies-tabular.svg"
DRAWN = ("OM sqrt-chi2", "OM chi2", "OM KL", "AD sqrt-chi2", "AD chi2", "AD KL")
_ON_DISTANCE = (
    "A policy's distance is the KL of its actions from the reference's in the states that it visits (nats there: at "
    "the best coefficient). Near the reference the proxy rises in proportion to sqrt-chi2, so that this penalty holds "
    "the reference down to a coefficient of nearly one standard deviation of the proxy and then leaves it in a jump: "
    "very small distances it does not offer. AD KL does, but has to stay at them, as it hacks beyond."
)
_ASKED = "asked here; the paper compares best coefficients"
Runs = Mapping[str, Sequence[TabularRun]]
"""By world, then by seed."""


def tabular_claims(runs: Runs, checked: Checked, plan: TabularPlan) -> list[Claim]:
    """The claims, with what the bounds gave on random processes."""
    return [_bound_claim(runs, checked), *(claim for found in runs.values() for claim in _claims(found, plan))]


def _over(found: Sequence[TabularRun], value: Callable[[TabularRun], float]) -> Estimate:
    return over_worlds([value(one) for one in found])


def gain_at_best(found: Sequence[TabularRun], name: str, other: str) -> Estimate:
    """Difference of two penalties, each at its best coefficient in each world."""
    return _over(found, lambda one: one.exact[name].best - one.exact[other].best)


def _bound_claim(runs: Runs, checked: Checked) -> Claim:
    optimised = sum((one.checked for found in runs.values() for one in found), NOTHING)
    every = checked + optimised
    return Claim(
        "The gain of the true reward is never below the theorem's bound.",
        f"{PAPER}, theorem 5.1",
        f"{checked.cases:,} random policies of random processes and {optimised.cases:,} optimised policies; the "
        "tighter bound of arXiv 2604.12086 as well",
        f"{every.violations} of {every.cases:,} below a bound; smallest distances above the two: {every.theorem:.1e} "
        f"and {every.tight:.1e} standard deviations of the true reward",
        "contradicted" if every.violations else "reproduced",
    )


def _claims(found: Sequence[TabularRun], plan: TabularPlan) -> list[Claim]:
    return [*_hacking_claims(found), *_order_claims(found), *_width_claims(found, plan), _sampled_claim(found)]


def _claim(statement: str, source: str, ran: str, effect: Estimate) -> Claim:
    return Claim(statement, source, ran, with_interval(effect, "percent", digits=1),
                 judge(effect, claimed=1))  # fmt: skip


def _hacking_claims(found: Sequence[TabularRun]) -> list[Claim]:
    world = found[0].world
    lost = _over(found, lambda one: one.hacked - one.reference)
    r = _over(found, lambda one: one.quality.correlation)
    return [
        Claim(
            f"Optimising a correlated proxy can bring the true return below the reference's ({world}).",
            f"{PAPER}, definition 4.2",
            f"no penalty; r = {with_interval(r, digits=4)} under the reference",
            with_interval(lost, "percent", digits=1),
            judge(lost, claimed=-1),
        ),
        _claim(
            f"With the theorem's coefficient the policy is better than the reference ({world}).",
            f"{PAPER}, the objective that theorem 5.1 asks for",
            f"{OURS} at sigma sqrt(1 - r^2), true return minus the reference's",
            _over(found, lambda one: one.theory - one.reference),
        ),
    ]


def _order_claims(found: Sequence[TabularRun]) -> list[Claim]:
    world = found[0].world
    pairs = (
        (OURS, "AD KL", f"{PAPER}, experiments"),
        ("OM KL", "AD KL", f"{PAPER}, experiments of version 1"),
        (OURS, "AD sqrt-chi2", f"{PAPER}, experiments"),
        ("OM chi2", "AD chi2", f"{PAPER}, experiments"),
        (OURS, "OM KL", f"{PAPER}, experiments"),
    )
    claims = [
        _claim(f"{name} reaches a higher true return than {other} ({world}).", source,
               "each at its best coefficient in each world", gain_at_best(found, name, other))
        for name, other, source in pairs
    ]  # fmt: skip

    equal = [
        _claim(
            f"Within the KL from the reference at which {name} is best, {OURS} reaches more than AD KL ({world}).",
            _ASKED,
            "KL of the action distributions weighted by visited states; with more coefficients where sqrt-chi2 leaves "
            "the reference",
            over_worlds([_gain_within(one, one.exact[name].drift_at_best) for one in found]),
        )
        for name in (OURS, "AD KL")
    ]
    return [*claims, *equal]


def _gain_within(one: TabularRun, drift: float) -> float:
    """What sqrt-chi2 reaches beyond AD KL within a drift, each with every coefficient that was tried."""
    ours = max(found.best_within(drift, otherwise=one.reference) for found in (one.exact[OURS], one.near))
    return ours - one.exact["AD KL"].best_within(drift, otherwise=one.reference)


def _width_claims(found: Sequence[TabularRun], plan: TabularPlan) -> list[Claim]:
    claims = []
    for other in ("OM KL", "AD KL", "OM chi2"):
        wider = over_worlds([_width(one, OURS, plan) - _width(one, other, plan) for one in found])
        claims.append(
            Claim(
                f"Good coefficients span a wider range with {OURS} than with {other} ({found[0].world}).",
                _ASKED,
                "decades of coefficients that give at least half of what can be gained over the reference",
                f"{with_interval(wider, digits=1)} decades",
                judge(wider, claimed=1),
            )
        )
    return claims


def _width(one: TabularRun, name: str, plan: TabularPlan) -> float:
    """Decades of good coefficients: their number times the spacing."""
    spacing = math.log10(plan.multiples[-1] / plan.multiples[0]) / (len(plan.multiples) - 1)
    return spacing * sum(one.is_good(true) for true in one.exact[name].true)


def _sampled_claim(found: Sequence[TabularRun]) -> Claim:
    return _claim(
        f"With a discriminator on samples, {OURS} still reaches a higher true return than OM KL ({found[0].world}).",
        f"{PAPER}, experiments",
        "ratio learned from visits, penalised rewards clipped and X trimmed; each at its best coefficient",
        _over(found, lambda one: one.sampled["sqrt_chi2"].best - one.sampled["kl"].best),
    )


def tabular_sections(runs: Runs, plan: TabularPlan) -> list[tuple[str, str]]:
    """Tables and the figure."""
    proxies = f"{_quality_table(runs)}\n\n{_ON_DISTANCE}\n\n![true return against coefficient]({FIGURE})"
    tables = [(f"Tabular worlds: {world}", _world_tables(found, plan)) for world, found in runs.items()]
    return [("Tabular worlds: the proxies", proxies), *tables]


def _quality_table(runs: Runs) -> str:
    columns: Mapping[str, Callable[[TabularRun], float]] = {
        "r": lambda one: one.quality.correlation,
        "proxy's sigma": lambda one: one.quality.sigma_proxy,
        "the theorem's coefficient": lambda one: one.quality.theory_coefficient,
        "reference": lambda one: one.reference,
        "proxy's optimum": lambda one: one.hacked,
        "at the theorem's coefficient": lambda one: one.theory,
    }
    rows: list[tuple[Cell, ...]] = [
        (world, *(_over(found, column) for column in columns.values())) for world, found in runs.items()
    ]
    return (
        "Means over seeds. The first three columns are in units of the rewards, the others are true returns.\n\n"
        + markdown_table(("world", *columns), rows, digits=3)
    )


def _world_tables(found: Sequence[TabularRun], plan: TabularPlan) -> str:
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            over_worlds([one.exact[name].best for one in found]),
            over_worlds([one.exact[name].drift_at_best for one in found]),
            over_worlds([_width(one, name, plan) for one in found]),
            *(_mean([one.exact[name].true[place] for one in found]) for place in _shown(plan.multiples)),
        )
        for name in PENALTIES
    ]
    header = ("penalty", "best", "nats there", "good range, decades", *_titles(plan.multiples))
    sampled: list[tuple[Cell, ...]] = [
        (
            kind,
            over_worlds([one.sampled[kind].best for one in found]),
            *(_mean([one.sampled[kind].true[place] for one in found]) for place in _shown(plan.sampled_multiples)),
        )
        for kind in found[0].sampled
    ]
    return (
        "True return by coefficient in standard deviations of the proxy, exact optimisation:\n\n"
        + markdown_table(header, rows)
        + "\n\nThe same with a discriminator on samples and penalised rewards, from the reference alone:\n\n"
        + markdown_table(("penalty", "best", *_titles(plan.sampled_multiples)), sampled)
    )


def _shown(multiples: Sequence[float]) -> list[int]:
    """Places of the coefficients that a table shows: about six."""
    return list(range(0, len(multiples), max(1, round(len(multiples) / 6))))


def _titles(multiples: Sequence[float]) -> list[str]:
    return [f"{multiples[place]:.3g}" for place in _shown(multiples)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def tabular_figure(runs: Runs, plan: TabularPlan) -> str:
    """True return against the coefficient, one panel for each world."""
    panels = {
        world: CoefficientPanel(
            coefficient=plan.multiples,
            curves={
                name: [over_worlds([one.exact[name].true[place] for one in found])
                       for place in range(len(plan.multiples))]
                for name in DRAWN
            },
            level=_mean([one.reference for one in found]),
            level_name="reference",
        )
        for world, found in runs.items()
    }  # fmt: skip
    return coefficient_sweeps(
        panels, unit="true return, share of the highest", coefficient_unit="coefficient, sigmas of the proxy"
    )
