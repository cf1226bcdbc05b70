"""Proxies that correlate with the true reward and are hacked all the same, and what regularising occupancies does.

The tabular part: two worlds in which occupancy measures are exact.

**Source** Laidlaw, Singhal, Dragan (2025), Correlated Proxies: A New Definition and Improved Mitigation for Reward
Hacking, arXiv 2403.03185; version 1 is "Preventing Reward Hacking with Occupancy Measure Regularization".
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from trueup.lab.reproduce.scale import Scale, single_threaded
from trueup.lab.reproduce.tabular_claims import (
    FIGURE,
    OURS,
    Runs,
    gain_at_best,
    tabular_claims,
    tabular_figure,
    tabular_sections,
)
from trueup.lab.tabular.guarantee import NOTHING, Checked, check_random
from trueup.lab.tabular.runs import WORLDS, TabularPlan, TabularRun, run_tabular
from trueup.report.evidence import Evidence
from trueup.report.tables import with_interval

_LEAD = (
    "The paper defines hacking relative to a reference policy: the proxy correlates with the true reward where the "
    "reference goes, and optimising it brings the true return below the reference's. It proves that the square root "
    "of the chi-squared divergence between occupancy measures (OM) bounds the loss, and finds that penalising it works "
    "better than penalising the divergence of action distributions (AD). Two small worlds allow exact occupancies and "
    "exact gradients, so that nothing but the penalty differs: a gridworld whose proxy pays a bonus in a far corner, "
    "and a garden where tomatoes must be kept wet and a bucket makes all of them look so. The reference is "
    "soft-optimal for the true reward and explores. Seed 0 is the standard world; others vary payments, walls, "
    "slipping, tomatoes and drying, and the start of the optimisation. Returns are shares of the highest true return "
    "of any policy. The [language world](correlated-proxies-language.md) has a page of its own."
)


def correlated_proxies(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the tabular worlds and write down what became of the paper's claims."""
    runs = tabular_runs(scale, progress=progress)
    checked = sum((check_random(scale.tabular.random_problems, policies=scale.tabular.random_policies, seed=seed)
                   for seed in scale.seeds), NOTHING)  # fmt: skip
    return evidence(runs, checked, plan=scale.tabular, command=command, seeds=scale.seeds)


def tabular_runs(scale: Scale, *, progress: bool = False) -> Runs:
    """Every world with every seed."""
    jobs = [(world, seed) for world in WORLDS for seed in scale.seeds]
    worlds, seeds = zip(*jobs, strict=True)
    run = partial(run_tabular, plan=scale.tabular)
    if scale.workers > 1:
        context = get_context("spawn")
        with ProcessPoolExecutor(scale.workers, mp_context=context, initializer=single_threaded) as pool:
            found = list(tqdm(pool.map(run, worlds, seeds), total=len(jobs), disable=not progress))
    else:
        found = [run(world, seed) for world, seed in tqdm(jobs, disable=not progress)]
    return {world: [one for one in found if one.world == world] for world in WORLDS}


def evidence(runs: Runs, checked: Checked, *, plan: TabularPlan, command: str, seeds: Sequence[int]) -> Evidence:
    """The page, from what was run."""
    gains = {world: gain_at_best(found, OURS, "AD KL") for world, found in runs.items()}
    return Evidence(
        name="correlated-proxies",
        title="Does regularising occupancy measures prevent the hacking of correlated proxies?",
        lead=_LEAD,
        finding="true return at the best coefficient, sqrt-chi2 of occupancies minus KL of actions: "
        + ", ".join(f"{world} {with_interval(gain, 'percent', digits=1)}" for world, gain in gains.items()),
        claims=tabular_claims(runs, checked, plan),
        command=command,
        seeds=seeds,
        settings=_settings(runs, plan, seeds),
        sections=tabular_sections(runs, plan),
        figures={FIGURE: tabular_figure(runs, plan)},
    )


def _settings(runs: Runs, plan: TabularPlan, seeds: Sequence[int]) -> dict[str, str]:
    return {
        "worlds": "; ".join(f"{world}: {_counts(found)} states" for world, found in runs.items()),
        "coefficients": f"{len(plan.multiples)} from {plan.multiples[0]:g} to {plan.multiples[-1]:g} standard "
        f"deviations of the proxy under the reference; {len(plan.near_multiples)} more from "
        f"{plan.near_multiples[0]:g} to {plan.near_multiples[-1]:g} for OM sqrt-chi2",
        "exact optimisation": f"Adam on logits, {plan.ascent.steps} steps of {plan.ascent.learning_rate:g}, from "
        "the reference and from the uniform policy, keeping the better objective",
        "with a discriminator": f"{plan.rounds.rounds} rounds of {plan.rounds.samples:,} visits of either policy, "
        f"{plan.rounds.discriminator_steps} discriminator steps and one policy step; "
        f"{len(plan.sampled_multiples)} coefficients",
        "random processes": f"{plan.random_problems * len(seeds):,} with {plan.random_policies} policies each",
    }


def _counts(found: Sequence[TabularRun]) -> str:
    counts = sorted({one.states for one in found})
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
