"""Batch-wise sum-to-zero under RLOO, in the small language world.

**Source** Hong, Lee et al. (2025), On the Robustness of Reward Models for Language Model Alignment, arXiv 2505.07271.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trueup.lab.optimizing import Looks
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.bsr import PAPER, arm_name, terms_of
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.policy_arms import (
    PolicyWorld,
    at_kl,
    final_of,
    gold_gain,
    kl_path,
    over_known,
    paired_at,
    peak_of,
    reach,
    run_policies,
    shared_kls,
    weights_at,
)
from trueup.lab.reproduce.policy_pages import (
    estimates_at,
    gold_and_proxy_figure,
    named_kls,
    optimization_settings,
    proxy_spread,
)
from trueup.lab.reproduce.policy_plans import FREE, ordinary, plain
from trueup.lab.reproduce.scale import Scale, World, run_worlds
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

COEFFICIENTS = (1e-2, 1e-1)
_DEGREE = 3


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """RLOO without a penalty against the proxy of each loss; the first is Bradley-Terry's."""
    return {name: plain(scale, seed, proxy=proxy) for name, proxy in proxies(scale, seed).items()}


def proxies(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Proxies of the same comparisons; Bradley-Terry alone is the ordinary one."""
    plans = {arm_name(c): replace(scale.proxy_plan(seed), terms=terms_of(c)) for c in COEFFICIENTS}
    return {FREE: ordinary(scale, seed), **{name: ProxyRun(plan=plan) for name, plan in plans.items()}}


def bsr_rloo(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_policies(scale, arms, progress=progress)
    scored = run_worlds(scale, proxies, progress=progress)
    return evidence(worlds, scored, scale=scale, command=command)


def evidence(worlds: Sequence[PolicyWorld], scored: Sequence[World], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run.

    Args:
        worlds: Optimised policies.
        scored: The same worlds' proxies.
        scale: What was run.
        command: The command that writes the page.
    """
    worlds = [replace(world, looks={_shown(name): one for name, one in world.looks.items()}) for world in worlds]
    names = list(worlds[0].looks)
    kls = shared_kls(worlds, names)
    claims = [claim for name in names[1:] for claim in arm_claims(worlds, name, kls=kls)]
    gains = [f"{name} {with_interval(paired_at(worlds, name, names[0], kls=kls))}" for name in names[1:]]
    return Evidence(
        name="bsr-rloo",
        title="Does a policy fare better against a reward model trained with batch-wise sum-to-zero?",
        lead=_LEAD,
        finding=f"gold at equal KL, minus Bradley-Terry's: {', '.join(gains)}",
        claims=claims,
        command=command,
        seeds=scale.seeds,
        settings=_settings(scale, kls),
        sections=_sections(worlds, scored, kls),
        figures={"bsr-rloo-frontier.svg": gold_and_proxy_figure(worlds, names)},
    )


_LEAD = (
    "Proxies learn from gold's comparisons of the policy's own samples, by Bradley-Terry (BT) alone or with batch-wise "
    "sum-to-zero (BSR); gold is the world's program. RLOO then optimises the policy against each of them, without a "
    "KL penalty. Rewards of different proxies have different sizes, and with a penalty the smaller ones would be held "
    "back more; so runs are compared at equal KL to the start. Gold is in standard deviations of the start's samples "
    "to one prompt, above the start's mean. Intervals are over worlds, each with its own text, policy, prompts, "
    "comparisons and proxies. [The proxies themselves, and best-of-n](bsr.md), have a page of their own."
)


def _shown(name: str) -> str:
    return arm_name(0.0) if name == FREE else name


def arm_claims(worlds: Sequence[PolicyWorld], arm: str, *, kls: Sequence[float]) -> list[Claim]:
    """What the paper says of one regularised proxy."""
    plain_arm, end = next(iter(worlds[0].looks)), max(kls, default=0.0)
    ran = f"{arm} against {plain_arm}, {named_kls(kls)}, {len(worlds)} worlds"
    gold = paired_at(worlds, arm, plain_arm, kls=kls)
    tokens = paired_at(worlds, arm, plain_arm, kls=kls, read=length_at)
    spread = paired_at(worlds, arm, plain_arm, kls=kls, read=reward_spread_at)
    growth = paired_at(worlds, arm, plain_arm, kls=kls, read=spread_growth_at)
    rough = over_known([_rougher(world, arm, plain_arm, end=end) for world in worlds])
    return [
        Claim(
            f"Against a {arm} proxy the policy reaches higher gold at equal KL.",
            f"{PAPER}, figure 5",
            ran,
            with_interval(gold),
            judge(gold, claimed=1),
        ),
        Claim(
            f"Against a {arm} proxy gold moves more steadily.",
            f"{PAPER}, figure 5",
            f"{arm} against {plain_arm}, standard deviation of the looks about a cubic in d, up to KL {end:g}",
            with_interval(rough, digits=3),
            judge(rough, claimed=-1),
        ),
        Claim(
            f"Against a {arm} proxy responses are shorter at equal KL.",
            f"{PAPER}, table 3",
            ran,
            f"{with_interval(tokens, digits=1)} tokens",
            judge(tokens, claimed=-1),
        ),
        Claim(
            f"The rewards that a {arm} proxy gives the policy's responses are less extreme.",
            f"{PAPER}, section 3",
            f"{ran}; standard deviation of all watched responses' rewards",
            f"{with_interval(spread)} in the rewards' own unit; over that of the start's responses "
            f"{with_interval(growth)}",
            judge(spread, claimed=-1),
        ),
    ]


def length_at(world: PolicyWorld, arm: str, kl: float) -> float:
    """Mean tokens of a response at a KL."""
    return at_kl(world.looks[arm], kl, what="tokens")


def reward_spread_at(world: PolicyWorld, arm: str, kl: float) -> float:
    """Standard deviation of the proxy over all watched responses at a KL, in its own unit."""
    looks = world.looks[arm]
    return float(weights_at(looks, kl) @ looks.proxy.std(axis=(1, 2)))


def spread_growth_at(world: PolicyWorld, arm: str, kl: float) -> float:
    """The same over what it was at the start."""
    return reward_spread_at(world, arm, kl) / float(world.looks[arm].proxy[0].std())


def _rougher(world: PolicyWorld, arm: str, other: str, *, end: float) -> float:
    one, two = (roughness(world.looks[name], end=end) for name in (arm, other))
    return (one - two) / world.scale


def roughness(looks: Looks, *, end: float) -> float:
    """Standard deviation of mean gold about a cubic in d, gold units.

    Args:
        looks: The run.
        end: Largest KL that counts, nats.

    Returns:
        The root of the residual sum of squares over its degrees of freedom; NaN with no more looks than the cubic has
        coefficients. Part of it is the noise of few watched responses, which is much the same for every run.
    """
    kept = kl_path(looks) <= end
    d, gold = np.sqrt(kl_path(looks)[kept]), looks.gold.mean(axis=(1, 2))[kept]
    if len(np.unique(d)) <= _DEGREE + 1:
        return float("nan")
    residual = gold - np.polyval(np.polyfit(d, gold, _DEGREE), d)
    return float(np.sqrt(np.sum(residual**2) / (len(d) - _DEGREE - 1)))


def _settings(scale: Scale, kls: Sequence[float]) -> dict[str, str]:
    return {
        "method": "RLOO without a KL penalty (the paper: 0.05 per nat, two samples a prompt)",
        "coefficients": f"{', '.join(f'{c:g}' for c in COEFFICIENTS)}, in batches of {scale.proxy.batch_size} pairs",
        **optimization_settings(scale, plain(scale, scale.seeds[0]).how),
        "equal KL": named_kls(kls),
    }


def _sections(worlds: Sequence[PolicyWorld], scored: Sequence[World], kls: Sequence[float]) -> list[tuple[str, str]]:
    return [
        ("Proxies", _proxies_table(worlds, scored)),
        ("Gold at equal KL", _gold_table(worlds, kls)),
        ("Lengths and rewards at equal KL", _drift_table(worlds, kls)),
    ]


def _proxies_table(worlds: Sequence[PolicyWorld], scored: Sequence[World]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for name in scored[0].proxies:
        shown = _shown(name)
        held = [world.proxies[name] for world in scored]
        away = [one.accuracy - world.proxies[FREE].accuracy for one, world in zip(held, scored, strict=True)]
        rows.append(
            (
                shown,
                over_worlds([one.accuracy for one in held]),
                over_worlds(away),
                over_worlds([float(one.score.mean()) for one in held]),
                over_worlds([float(one.score.std()) for one in held]),
                over_worlds([proxy_spread(world, shown) for world in worlds]),
            )
        )
    header = ("proxy", "in-domain accuracy", "minus BT's", "reward mean", "reward std", "reward std within a prompt")
    note = "Accuracy on held-out comparisons of the start's samples, which are also what the rewards are of.\n\n"
    return note + markdown_table(header, rows, digits=3)


def _gold_table(worlds: Sequence[PolicyWorld], kls: Sequence[float]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for arm in worlds[0].looks:
        peak = [peak_of(world, arm)[0] for world in worlds]
        last = [final_of(world, arm) for world in worlds]
        ends = [reach(world.looks[arm]) for world in worlds]
        rows.append((arm, *estimates_at(worlds, arm, kls, read=gold_gain), *map(over_worlds, (peak, last, ends))))
    return markdown_table(("proxy", *(f"KL {kl:g}" for kl in kls), "highest", "last look", "largest KL"), rows)


def _drift_table(worlds: Sequence[PolicyWorld], kls: Sequence[float]) -> str:
    shown = sorted({kls[0], kls[len(kls) // 2], kls[-1]}) if kls else []
    header = ("proxy", "tokens at the start", *(f"tokens, KL {kl:g}" for kl in shown), "reward std at the start",
              *(f"reward std, KL {kl:g}" for kl in shown))  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for arm in worlds[0].looks:
        start: list[Estimate] = [
            over_worlds([float(world.looks[arm].tokens[0].mean()) for world in worlds]),
            over_worlds([float(world.looks[arm].proxy[0].std()) for world in worlds]),
        ]
        lengths = estimates_at(worlds, arm, shown, read=length_at)
        rows.append((arm, start[0], *lengths, start[1], *estimates_at(worlds, arm, shown, read=reward_spread_at)))
    return markdown_table(header, rows)
