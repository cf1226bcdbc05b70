"""Ensembles of reward models under PPO, in the small language world.

**Source** Coste, Anwar, Kirk, Krueger (2024), Reward Model Ensembles Help Mitigate Overoptimization, arXiv 2310.02743.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float

from trueup.lab.optimizing import Looks, Optimization
from trueup.lab.policy_runs import PolicyRun, reward_of
from trueup.lab.reproduce.disagreement import Moments, Spread, spread_along
from trueup.lab.reproduce.fronts import (
    at_step,
    common_step,
    directed_claim,
    drift,
    fall_of,
    highest,
    kl_table,
    paired,
)
from trueup.lab.reproduce.policy_arms import (
    PolicyWorld,
    final_of,
    judge_equal,
    over_known,
    paired_at,
    run_policies,
    shared_kls,
)
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, named_kls, optimization_settings
from trueup.lab.reproduce.policy_plans import PPO_PASSES, by_ppo, plain
from trueup.lab.reproduce.rm_ensembles import PAPER, SINGLE, member_name
from trueup.lab.reproduce.rm_ensembles import arms as proxy_arms
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Evidence, Verdict, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell
from trueup.rewards.aggregates import Aggregate, Mean, UncertaintyWeighted, WorstCase

Array = np.ndarray

PENALTY = 0.02
MARGIN = 0.1
"""Standard deviations of gold: a fall after the peak that is no larger counts as none."""

MEAN, UWO = "mean", "uncertainty-weighted"
AGGREGATES: Mapping[str, Aggregate] = {
    MEAN: Mean(),
    "worst case": WorstCase(),
    UWO: UncertaintyWeighted(coefficient=0.1),
}
KINDS = (*AGGREGATES, SINGLE)
"""The mean is first: a world's first run trains the proxies that its others share."""


def penalized(kind: str) -> str:
    """Arm of the same reward with a small KL penalty."""
    return f"{kind}, KL {PENALTY:g}"


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """PPO against each aggregate of noisy members, and against one member, with and without a small penalty."""
    proxies = proxy_arms(scale, seed)
    members = tuple(proxies[member_name(member, scale.flip)] for member in range(scale.members))
    found = {}
    for coefficient in (0.0, PENALTY):
        for kind in KINDS:
            found[penalized(kind) if coefficient else kind] = PolicyRun(
                proxies=members[:1] if kind == SINGLE else members,
                aggregate=AGGREGATES.get(kind, Mean()),
                how=_how(scale, seed, coefficient),
            )
    return found


def _how(scale: Scale, seed: int, coefficient: float) -> Optimization:
    return by_ppo(plain(scale, seed, kl_coefficient=coefficient).how)


def spreads(scale: Scale, world: PolicyWorld, *, kl: float) -> dict[str, Spread]:
    """Score what the policies of a world said along their runs without penalty with all members."""
    reward = reward_of(world.setup, arms(scale, world.seed)[MEAN], folder=scale.folder)
    moments, prompts = Moments(kl=kl, step=common_step(world, KINDS)), world.setup.pool.prompts
    return {kind: spread_along(world.looks[kind], moments=moments, reward=reward, prompts=prompts) for kind in KINDS}


def rm_ensembles_ppo(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_policies(scale, arms, progress=progress)
    kl = max(shared_kls(worlds, KINDS), default=0.0)
    found = [spreads(scale, world, kl=kl) for world in worlds]
    return evidence_of(worlds, found, scale=scale, command=command)


_LEAD = (
    "Proxies learn from the same comparisons, a part of whose labels is turned round; seeds change the head and the "
    "order of the data. PPO optimises one of them, or their mean, minimum (worst case) or mean less a tenth of their "
    "variance (uncertainty-weighted, with the coefficient of the paper's released PPO settings), without a KL penalty "
    f"and with one of {PENALTY:g} per nat. Members are used on their own scales, as in the paper. The paper gets win "
    "rates at the end of training; here gold is compared at equal KL to the start as well. Gold is in standard "
    "deviations of the start's samples to one prompt, above the start's mean. [The same ensembles under "
    "best-of-n](rm-ensembles.md) have a page of their own."
)


def evidence_of(
    worlds: Sequence[PolicyWorld], found: Sequence[Mapping[str, Spread]], *, scale: Scale, command: str
) -> Evidence:
    """The page, from what was run and how much members disagreed."""
    gain = {
        kind: paired_at(worlds, kind, SINGLE, kls=shared_kls(worlds, (kind, SINGLE))) for kind in ("worst case", UWO)
    }
    return Evidence(
        name="rm-ensembles-ppo",
        title="Do conservative ensembles of reward models prevent over-optimisation under PPO?",
        lead=_LEAD,
        finding="gold at equal KL without penalty, minus a single model's: "
        + ", ".join(f"{kind} {with_interval(one)}" for kind, one in gain.items()),
        claims=[*_gold_claims(worlds), *_penalty_claims(worlds), *_spread_claims(worlds, found)],
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(scale),
        sections=_sections(worlds, found),
        figures={
            "rm-ensembles-ppo-free.svg": gold_and_proxy_figure(worlds, KINDS),
            "rm-ensembles-ppo-penalty.svg": gold_and_proxy_figure(worlds, [penalized(kind) for kind in KINDS]),
        },
    )


def _settings(scale: Scale) -> dict[str, str]:
    how = arms(scale, scale.seeds[0])[MEAN].how
    return {
        "arms": f"{2 * len(KINDS)} runs of PPO a world; the single model is the first member",
        "method": f"PPO, clip 0.2, lambda 0.95, {PPO_PASSES} passes over each rollout (the paper: 4, to cost more); a "
        "linear value head on the policy's last states, from zero, trained with it",
        "members": f"{scale.members}, {scale.flip:.0%} of their labels turned round, the same for all",
        "uncertainty weight": "0.1, population variance",
        "KL penalty": f"0 and {PENALTY:g} per nat, in the reward of each token; all weights are trained (the paper: "
        "the top two layers)",
        **optimization_settings(scale, how),
    }


def _claim(statement: str, effect: Estimate, *, where: str, ran: str, claimed: Literal[1, -1] = 1) -> Claim:
    return directed_claim(statement, effect, source=f"{PAPER}, {where}", ran=ran, claimed=claimed)


def _words(kind: str) -> str:
    return f"the {kind} mean of an ensemble" if kind == UWO else f"the {kind} of an ensemble"


def end_gain(world: PolicyWorld, arm: str, *, among: Sequence[str]) -> float:
    """Gold's gain at the last step at which all of some arms were looked at."""
    return at_step(world, arm, common_step(world, among), what="gold")


def win_rate(world: PolicyWorld, one: str, other: str, *, among: Sequence[str]) -> float:
    """Share of responses of one arm that gold prefers to the other's at that step, ties one half."""
    step = common_step(world, among)
    a, b = (_gold_at(world.looks[name], step) for name in (one, other))
    return float(np.mean((a > b) + 0.5 * (a == b)))


def _gold_at(looks: Looks, step: int) -> Float[Array, "prompts samples"]:
    return np.asarray(looks.gold[int(np.flatnonzero(looks.step == step)[0])])


def _gold_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    claims, where = [], "PPO with noisy labels"
    for kind in AGGREGATES:
        kls = shared_kls(worlds, (kind, SINGLE))
        wins = over_known([win_rate(world, kind, SINGLE, among=KINDS) for world in worlds])
        claims += [
            _claim(
                f"Against {_words(kind)} the policy has more gold than against one model, at equal KL.",
                paired_at(worlds, kind, SINGLE, kls=kls),
                where=f"{where}; there after training",
                ran=f"no penalty, {named_kls(kls)}",
            ),
            _claim(
                f"Against {_words(kind)} the policy has more gold than against one model, at the end.",
                paired(worlds, kind, SINGLE, read=partial(end_gain, among=KINDS)),
                where=f"{where}, win rates",
                ran="no penalty, last step at which all are looked at; wins on "
                f"{with_interval(wins, 'percent', digits=0)} of responses",
            ),
        ]
    return claims


def judge_kept(gain: Estimate, fall: Estimate) -> Verdict:
    """What is said of a claim that nothing is lost again; where nothing was gained, it cannot be told."""
    return judge_equal(fall, margin=MARGIN) if judge(gain, claimed=1) == "reproduced" else "not at this scale"


def _penalty_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    ran, among = f"KL {PENALTY:g} per nat", [penalized(kind) for kind in KINDS]
    claims, where = [], "PPO with a small KL penalty"
    for kind in ("worst case", UWO):
        fall = over_known([fall_of(world, penalized(kind)) for world in worlds])
        gain = over_known([highest(world, penalized(kind)) for world in worlds])
        claims += [
            Claim(
                f"With a small KL penalty nothing is over-optimised against {_words(kind)}.",
                f"{PAPER}, {where}",
                f"{ran}, gold lost from the best look, at {with_interval(gain)}, to the last; none up to {MARGIN:g}",
                f"{with_interval(fall)}, {fall.n} worlds",
                judge_kept(gain, fall),
            ),
            _claim(
                f"With a small KL penalty {_words(kind)} ends with more gold than one model.",
                paired(worlds, penalized(kind), penalized(SINGLE), read=partial(end_gain, among=among)),
                where=where,
                ran=f"{ran}, last step at which all are looked at",
            ),
        ]
    fall = over_known([fall_of(world, penalized(SINGLE)) for world in worlds])
    lost = f"{ran}, gold lost from the best look to the last"
    claims.append(_claim("The same penalty is too small for a single model.", fall, where=where, ran=lost))
    return claims


def _spread_claims(worlds: Sequence[PolicyWorld], found: Sequence[Mapping[str, Spread]]) -> list[Claim]:
    kls, where = shared_kls(worlds, KINDS)[-1:], "variance between members during PPO"
    what, end = "variance between members over that at the start, no penalty", "last step at which all are looked at"
    return [
        _claim(
            "Members disagree more and more about a policy that optimises their mean.",
            over_known([one[MEAN].at_end - 1 for one in found]),
            where=where,
            ran=f"{what}, minus 1, {end}",
        ),
        _claim(
            "They disagree less where their variance is held against it.",
            over_known([one[UWO].at_end - one[MEAN].at_end for one in found]),
            where=where,
            ran=f"{what}, uncertainty-weighted minus mean, {end}",
            claimed=-1,
        ),
        _claim(
            "They disagree less at equal KL, too.",
            over_known([one[UWO].at_kl - one[MEAN].at_kl for one in found]),
            where=f"{where}; there at equal steps",
            ran=f"{what}, uncertainty-weighted minus mean, {named_kls(kls)}",
            claimed=-1,
        ),
    ]


def _sections(worlds: Sequence[PolicyWorld], found: Sequence[Mapping[str, Spread]]) -> list[tuple[str, str]]:
    every = [*KINDS, *(penalized(kind) for kind in KINDS)]
    ends: list[tuple[Cell, ...]] = []
    for arm in every:
        last = [float(drift(world.looks[arm])[-1]) for world in worlds]
        held = [highest(world, arm) for world in worlds]
        final = [final_of(world, arm) for world in worlds]
        falls = [fall_of(world, arm) for world in worlds]
        ends.append((arm, *map(over_known, (held, final, falls, last))))
    disagree: list[tuple[Cell, ...]] = [
        (kind, over_known([one[kind].at_kl for one in found]), over_known([one[kind].at_end for one in found]))
        for kind in KINDS
    ]
    kl = max(shared_kls(worlds, KINDS), default=0.0)
    return [
        ("Without a penalty", "![gold and proxy against distance](rm-ensembles-ppo-free.svg)"),
        ("With a small penalty", "![gold and proxy against distance](rm-ensembles-ppo-penalty.svg)"),
        ("Gold where a KL is first reached", kl_table(worlds, every)),
        (
            "Best and last look",
            "The best look is chosen on half of the prompts and measured on the others.\n\n"
            + markdown_table(("optimised", "best look", "last look", "fall", "KL at the last look"), ends),
        ),
        (
            "Disagreement of the members",
            "Variance between members over that at the start, without a penalty.\n\n"
            + markdown_table(("optimised", f"KL {kl:g}", "last common step"), disagree),
        ),
    ]
