"""SuperHF in the small language world: imitating the best of one's own responses, held by a prior.

**Source** Mukobi et al. (2023), SuperHF: Supervised Iterative Learning from Human Feedback, arXiv 2310.16763, and its
released settings.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from trueup.lab.reproduce.fronts import at_step, directed_claim, drift, gains, kl_table, paired, step_figure
from trueup.lab.reproduce.policy_arms import (
    PolicyWorld,
    gold_gain,
    over_known,
    paired_at,
    run_policies,
    shared_kls,
)
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, named_kls, optimization_settings, proxy_gain
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.lab.reproduce.scale import Scale
from trueup.lab.reproduce.superhf_runs import (
    COEFFICIENTS,
    HELD,
    PAIRS,
    PLAIN,
    PPO_HELD,
    RELEASED,
    REPEAT_STEPS,
    REPEATED,
    REPEATS,
    RHYTHM,
    STEADY,
    SWEEP,
    Alike,
    alike_in,
    arms,
    middle_of,
    order,
    stability,
    sweep_step,
)
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Evidence, Verdict, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Mukobi et al. 2023"


def superhf(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    return evidence_of(run_policies(scale, arms, progress=progress), scale=scale, command=command)


_LEAD = (
    "SuperHF draws 16 responses to a prompt, keeps the one that the proxy likes best, and trains on it; a prior, "
    "the KL of the start from the policy over the whole vocabulary, holds it back with a weight c. The paper says that "
    "this is more stable than PPO, and that c trades reward for less reward hacking, which it measures by how alike "
    "responses to unrelated prompts are (METEOR of pairs). Here its stability is held against PPO and RLOO, and its "
    "gold, reward and similarity against RLOO, without and with a KL penalty. Weights c are compared after equal "
    "steps, as in the paper, methods at equal KL to the start. The paper tests with a second reward model; here gold "
    "is the world's program."
)


def evidence_of(worlds: Sequence[PolicyWorld], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    kls = shared_kls(worlds, (RELEASED, HELD))
    alike = [alike_in(world) for world in worlds]
    falls = over_known([order([one.sweep[arm] for arm in SWEEP]) for one in alike])
    shown = (FREE, HELD, *SWEEP)
    return Evidence(
        name="superhf",
        title="Is imitating the best of one's own responses steadier than reinforcement, and does its prior prevent "
        "hacking?",
        lead=_LEAD,
        finding=f"gold at equal KL, {RELEASED} minus {HELD}: "
        f"{with_interval(paired_at(worlds, RELEASED, HELD, kls=kls))}; similarity falls with c: Kendall's tau "
        f"{with_interval(falls)}",
        claims=[
            *_sweep_claims(worlds, alike),
            *_collapse_claims(alike),
            *_method_claims(worlds),
            *_stable_claims(worlds),
        ],
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(scale),
        sections=_sections(worlds, alike),
        figures={
            "superhf-kl.svg": gold_and_proxy_figure(worlds, shown),
            "superhf-steps.svg": step_figure(worlds, shown),
        },
    )


def _settings(scale: Scale) -> dict[str, str]:
    how = plain(scale, scale.seeds[0]).how
    return {
        "arms": f"{len(SWEEP)} of SuperHF and 2 of RLOO; {len(REPEATED) - 2} short ones a world, with several seeds",
        "SuperHF": f"{RHYTHM.prompts} prompts a step, {RHYTHM.samples} samples each, the best kept; c times the sum "
        f"over the kept responses, as released; AdamW as RLOO's",
        "repeats": f"{HELD}, {PPO_HELD} and {RELEASED}, {REPEATS} seeds of prompts and draws in each world, "
        f"{min(REPEAT_STEPS, scale.policy_steps)} steps",
        "similarity": f"METEOR of exact words, {PAIRS} pairs of responses to different prompts",
        **{
            f"RLOO: {name}" if name == "optimisation" else name: value
            for name, value in optimization_settings(scale, how).items()
        },
    }


def _claim(
    statement: str, effect: Estimate, *, where: str = "KL sweep", ran: str, claimed: Literal[1, -1] = 1
) -> Claim:
    return directed_claim(statement, effect, source=f"{PAPER}, {where}", ran=ran, claimed=claimed)


def _sweep_claims(worlds: Sequence[PolicyWorld], alike: Sequence[Alike]) -> list[Claim]:
    ran = f"c of {', '.join(f'{c:g}' for c in COEFFICIENTS)}, last step at which all are looked at: Kendall's tau"
    reward = [{arm: at_step(world, arm, sweep_step(world), what="proxy") for arm in SWEEP} for world in worlds]
    claims = []
    for statement, found in (
        ("The optimised reward falls with c.", reward),
        ("Responses to different prompts are less alike, the larger c.", [one.sweep for one in alike]),
    ):
        tau = over_known([order([one[arm] for arm in SWEEP]) for one in found])
        ends = with_interval(over_known([one[RELEASED] - one[PLAIN] for one in found]), digits=3)
        claims.append(_claim(statement, tau, ran=f"{ran}; the largest c minus none, {ends}", claimed=-1))
    return [*claims, _middle_claim(worlds)]


def _middle_claim(worlds: Sequence[PolicyWorld]) -> Claim:
    middles = [middle_of(world) for world in worlds]
    sides = [over_known([one.least for one in middles]), over_known([one.largest for one in middles])]
    return Claim(
        "Gold is highest at a middle c.",
        f"{PAPER}, KL sweep",
        "same step; the better middle c, chosen on half of the prompts and measured on the others",
        f"minus none {with_interval(sides[0])}, minus the largest {with_interval(sides[1])}, {sides[0].n} worlds",
        judge_both(sides),
    )


def judge_both(effects: Sequence[Estimate]) -> Verdict:
    """What intervals say of a claim that several effects are all positive."""
    found = {judge(effect, claimed=1) for effect in effects}
    if "contradicted" in found:
        return "contradicted"
    return "reproduced" if found == {"reproduced"} else "not at this scale"


def _collapse_claims(alike: Sequence[Alike]) -> list[Claim]:
    last = with_interval(over_known([one.last[FREE] for one in alike]), digits=3)
    return [
        _claim(
            "Reinforcement without a KL penalty comes to answer everything alike.",
            over_known([one.last[FREE] - one.start for one in alike]),
            where="PPO with KL 0",
            ran=f"RLOO, {FREE}, similarity at the last look, {last} (1 would be the same answer to all), minus the "
            "start's",
        ),
        _claim(
            "SuperHF with its prior does not come to that.",
            over_known([one.last[RELEASED] - one.last[FREE] for one in alike]),
            where="KL sweep and PPO with KL 0",
            ran=f"similarity at the last looks, {RELEASED} minus RLOO, {FREE}",
            claimed=-1,
        ),
    ]


def _method_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    claims = []
    for one, other, words in ((PLAIN, FREE, "without a penalty"), (RELEASED, HELD, "with a KL penalty")):
        kls = shared_kls(worlds, (one, other))
        for statement, read in (("gold", gold_gain), ("of the optimised reward", proxy_gain)):
            effect = paired_at(worlds, one, other, kls=kls, read=read)
            claims.append(
                _claim(
                    f"{one} gives more {statement} than RLOO {words} at equal KL.",
                    effect,
                    where="test rewards; there after training",
                    ran=named_kls(kls),
                )
            )
    return claims


def _stable_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    kl = max(shared_kls(worlds, REPEATED), default=None)
    return [claim for rival in (PPO_HELD, HELD) for claim in _stable_against(worlds, rival, kl=kl)]


def _stable_against(worlds: Sequence[PolicyWorld], rival: str, *, kl: float | None) -> list[Claim]:
    ran = f"{REPEATS} seeds in each world, {RELEASED} minus {rival}"
    at_end, name = "the last step that all repeats reach", rival.partition(",")[0]

    def effect(part: str, *, at: float | None) -> Estimate:
        return paired(worlds, RELEASED, rival, read=partial(_steadiness, part=part, kl=at))

    claims = [
        _claim(
            f"SuperHF varies less over seeds than {name}.",
            effect("spread", at=None),
            where="stability over 20 seeds",
            ran=f"{ran}, standard deviation of gold over seeds, {at_end}",
            claimed=-1,
        ),
        _claim(
            f"More of SuperHF's runs than of {name}'s improve on the start.",
            effect("improved", at=None),
            where="share of runs that improve",
            ran=f"{ran}, share of runs with more gold than the start, {at_end}",
        ),
    ]
    if kl is not None:
        claims.append(
            _claim(
                f"SuperHF varies less over seeds than {name} at equal KL, too.",
                effect("spread", at=kl),
                where="stability over 20 seeds; there after training",
                ran=f"{ran}, standard deviation of gold over seeds, KL {kl:g}",
                claimed=-1,
            )
        )
    return claims


def _steadiness(world: PolicyWorld, arm: str, *, part: str, kl: float | None) -> float:
    return float(getattr(stability(world, arm, kl=kl), part))


def _sections(worlds: Sequence[PolicyWorld], alike: Sequence[Alike]) -> list[tuple[str, str]]:
    every = (FREE, HELD, *SWEEP)
    rows: list[tuple[Cell, ...]] = []
    for arm in every:
        ends = [
            [one.last[arm] for one in alike],
            [float(drift(world.looks[arm])[-1]) for world in worlds],
            *([float(gains(world, arm, what)[-1]) for world in worlds] for what in ("gold", "proxy")),
        ]
        rows.append((arm, *map(over_known, ends)))
    start = over_known([one.start for one in alike])
    seeds: list[tuple[Cell, ...]] = [
        (
            arm,
            *(
                over_known([getattr(stability(world, arm), part) for world in worlds])
                for part in ("mean", "spread", "improved")
            ),
        )
        for arm in STEADY
    ]
    return [
        ("Against distance", "![gold and proxy against distance](superhf-kl.svg)"),
        ("Gold where a KL is first reached", kl_table(worlds, every)),
        ("Along the steps", "![KL, gold and proxy along the steps](superhf-steps.svg)"),
        (
            "At the last look",
            f"Similarity of the start's responses: {with_interval(start, digits=3)}.\n\n"
            + markdown_table(("arm", "similarity", "KL", "gold", "proxy"), rows, digits=3),
        ),
        (
            "Over seeds within a world",
            markdown_table(("method", "gold", "its std over seeds", "share above the start"), seeds),
        ),
    ]
