"""H-DPO on problems with a verifier: entropy, pass@1 and pass@k against alpha, and what temperature alone does.

**Source** Omura, Fujita, Kataoka (2024), Entropy controllable direct preference optimization, arXiv 2411.07595.
"""

from collections.abc import Sequence

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.h_dpo_claims import beyond_temperature, entropy_ends, h_dpo_claims, over, solved_ends
from trueup.lab.reproduce.h_dpo_runs import (
    ALPHAS,
    BETA,
    OTHERS,
    PLAIN,
    TEMPERATURES,
    WEAK_BETA,
    HDpoWorld,
    arm,
    arms,
    over_seeds,
    run_world,
    scaled,
    sizes_of_k,
    weak,
    world_plan,
)
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.dots import Scale as Axis
from trueup.report.dots import forest
from trueup.report.evidence import Evidence
from trueup.report.sweeps import CoefficientPanel, coefficient_sweeps
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

_LEAD = (
    "DPO's regulariser is the reverse KL, minus the policy's entropy plus its cross-entropy with the reference. H-DPO "
    "weighs the entropy by alpha: below 1 the policy is to become sharper, above 1 more diverse. The paper reports "
    "more right answers and better pass@k in mathematics. Here a small policy learned to add and to take away from "
    "workings with mistakes; a verifier prefers its right workings to its wrong ones. In theory H-DPO's optimum is "
    "DPO's with whole responses drawn at temperature alpha, so the strong control is DPO decoded at that temperature, "
    "token by token, which costs no training. Another is DPO with alpha beta in the place of beta."
)


def h_dpo(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    return evidence_of(over_seeds(run_world, scale, progress=progress), scale=scale, command=command)


def evidence_of(worlds: Sequence[HDpoWorld], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    return Evidence(
        name="h-dpo",
        title="Does H-DPO's alpha set a policy's entropy, and does a sharper policy solve more?",
        lead=_LEAD,
        finding=f"from alpha {ALPHAS[-1]:g} to {ALPHAS[0]:g}, entropy changes by "
        f"{with_interval(over(worlds, entropy_ends))} nats and pass@1 by "
        f"{with_interval(over(worlds, solved_ends), 'percent', digits=1)}; alpha below 1 minus DPO decoded at "
        f"temperature alpha: {with_interval(over(worlds, beyond_temperature), 'percent', digits=1)}",
        claims=h_dpo_claims(worlds),
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(worlds, scale),
        sections=_sections(worlds),
        figures={"h-dpo-entropy.svg": _entropy_figure(worlds), "h-dpo-pass.svg": _pass_figure(worlds)},
    )


def _settings(worlds: Sequence[HDpoWorld], scale: Scale) -> dict[str, str]:
    plan, how = world_plan(scale, scale.seeds[0]), arms(scale, scale.seeds[0])[PLAIN]
    policy = plan.policy
    return {
        "worlds": "each its own policy, problems and comparisons",
        "policy": f"{policy.shape.layers} layers of width {policy.shape.width}, characters as tokens; "
        f"{policy.problems:,} problems with {policy.responses} workings each, {policy.slip:.0%} of numbers off by one",
        "start": f"pass@1 {with_interval(over(worlds, lambda world: world.start.pass_at(1)), 'percent', digits=1)}, "
        f"entropy {with_interval(over(worlds, lambda world: world.start.entropy))} nats",
        "comparisons": f"up to {plan.pairs} a problem from {plan.drawn} own workings of each of {plan.problems}, none "
        f"in two; {with_interval(over(worlds, lambda world: world.pairs), digits=0)} in all",
        "training": f"beta {BETA:g} where nothing else is said, {how.steps} steps of {how.batch_size} "
        f"comparisons, AdamW {how.learning_rate:g}; of four settings tried at alpha 1 in world 0 this beta was taken "
        "for a pass@1 near the best and an effect of alpha that can be seen; a smaller beta has arms of its own",
        "measured": f"{plan.samples} workings of each of {plan.watched} other problems; entropy of whole workings; "
        f"temperatures {', '.join(f'{t:g}' for t in TEMPERATURES)}; hard are the {plan.hard:.0%} of which the "
        f"fewest of {plan.drawn} other workings of the start were right",
    }


def _sections(worlds: Sequence[HDpoWorld]) -> list[tuple[str, str]]:
    return [
        ("Entropy", "![entropy of whole workings](h-dpo-entropy.svg)"),
        ("pass@k", "Hard problems alone.\n\n![pass@k against k](h-dpo-pass.svg)"),
        ("At temperature 1, and the controls", _table(worlds)),
        ("At the best temperature for each k", _best_table(worlds)),
    ]


def _columns(worlds: Sequence[HDpoWorld]) -> list[tuple[int, bool]]:
    """pass@1 of all problems, and pass@k of the hard ones."""
    return [(1, False), *((k, True) for k in sizes_of_k(worlds))]


def _header(worlds: Sequence[HDpoWorld]) -> list[str]:
    return [f"pass@{k}{', hard' if hard else ''}" for k, hard in _columns(worlds)]


def _table(worlds: Sequence[HDpoWorld]) -> str:
    columns = _columns(worlds)
    starts = [world.start for world in worlds]
    solved = [over_worlds([start.pass_at(k, hard=hard) for start in starts]) for k, hard in columns]
    rows: list[tuple[Cell, ...]] = [("start", over_worlds([start.entropy for start in starts]), *solved)]
    named = [(arm(a), arm(a), 1.0) for a in ALPHAS]
    named += [(f"DPO at temperature {a:g}", PLAIN, a) for a in OTHERS]
    named += [(scaled(a), scaled(a), 1.0) for a in OTHERS]
    named += [(weak(a), weak(a), 1.0) for a in ALPHAS]
    for words, name, t in named:
        solved = [
            over_worlds([world.solved(name, k, temperature=t, hard=hard) for world in worlds]) for k, hard in columns
        ]
        rows.append((words, over_worlds([world.entropy(name, temperature=t) for world in worlds]), *solved))
    return markdown_table(("arm", "entropy", *_header(worlds)), rows, digits=3)


def _best_table(worlds: Sequence[HDpoWorld]) -> str:
    rows: list[tuple[Cell, ...]] = [
        (
            arm(a),
            *(over_worlds([w.at_best(arm(a), k, hard=hard) for w in worlds]) for k, hard in _columns(worlds)),
        )
        for a in ALPHAS
    ]
    return markdown_table(("arm", *_header(worlds)), rows, digits=3)


def _entropy_figure(worlds: Sequence[HDpoWorld]) -> str:
    def entropy(name: str, temperature: float = 1.0) -> Estimate:
        return over_worlds([world.entropy(name, temperature=temperature) for world in worlds])

    series = {
        "H-DPO": {arm(a): entropy(arm(a)) for a in ALPHAS},
        "DPO at temperature alpha": {arm(a): entropy(PLAIN, a) for a in OTHERS},
        "DPO with alpha beta": {arm(a): entropy(scaled(a)) for a in OTHERS},
        f"H-DPO, beta {WEAK_BETA:g}": {arm(a): entropy(weak(a)) for a in ALPHAS},
    }
    return forest(series, Axis(label="entropy of whole workings, nats"))


def _pass_figure(worlds: Sequence[HDpoWorld]) -> str:
    ks = sizes_of_k(worlds)
    level = over_worlds([world.start.pass_at(1, hard=True) for world in worlds]).value
    reads = {"temperature 1": HDpoWorld.solved, "best temperature": HDpoWorld.at_best}
    panels = {
        words: CoefficientPanel(
            coefficient=ks,
            curves={
                arm(a): [over_worlds([read(world, arm(a), k, hard=True) for world in worlds]) for k in ks]
                for a in ALPHAS
            },
            level=level,
            level_name="the start's pass@1",
        )
        for words, read in reads.items()
    }
    return coefficient_sweeps(panels, unit="pass@k", coefficient_unit="k")
