"""MODPO: one policy for each weighting of two rewards in conflict, in small worlds and in the language world.

**Source** Zhou et al. (2024), Beyond One-Preference-Fits-All Alignment: Multi-Objective Direct Preference Optimization,
arXiv 2310.03708.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from trueup.lab.reproduce import modpo_language as language
from trueup.lab.reproduce import modpo_tables as tables
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.modpo_claims import PAPER, table_claims, table_sections
from trueup.lab.reproduce.modpo_figure import FrontPanel, Point, front_figure
from trueup.lab.reproduce.modpo_language import LanguageFront, run_languages, steps_of, weights_of
from trueup.lab.reproduce.modpo_tables import TableRuns, run_tables
from trueup.lab.reproduce.policy_arms import over_known
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

FIGURE = "modpo-fronts.svg"
_SHOWN_NATS = 0.5

_LEAD = (
    "Who wants two things of a policy has to say how much of each. The paper trains one policy for each weighting with "
    "a loss like DPO's, on the preferences by one reward, with the other reward as a margin, and shows that its "
    "optimum is that of reinforcement learning on the weighted sum. Compared are the sum of two weighted DPO losses, "
    "soups of the two DPO policies' weights, and the optimum itself where it is known: in small worlds of one prompt "
    "with 12 responses and two rewards that correlate at -0.6. In the language world the two rewards are coverage, the "
    "share of what was asked for that is there (a facet of gold), and brevity, few words; each has comparisons of its "
    "own. Fronts are compared at equal KL to the start."
)


def modpo(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run both kinds of worlds and write down what became of the paper's claims."""
    return evidence_of(run_tables(scale), run_languages(scale, progress=progress), scale=scale, command=command)


def evidence_of(small: TableRuns, worlds: Sequence[LanguageFront], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    gap = over_worlds((small.mean(tables.MANY, tables.MIXTURE, "shortfall")
                       - small.mean(tables.MANY, tables.MODPO_ARM, "shortfall")).mean(axis=1).tolist())  # fmt: skip
    spoken = _paired(worlds, LanguageFront.weighted, language.MIXTURE)
    return Evidence(
        name="modpo",
        title="Does MODPO give a better front of two rewards than mixing losses or weights?",
        lead=_LEAD,
        finding="weighted reward at equal KL, MODPO minus a mixture of losses: small worlds "
        f"{with_interval(gap, digits=3)}, language world {with_interval(spoken)} standard deviations",
        claims=[*table_claims(small), *_language_claims(worlds)],
        command=command,
        seeds=scale.seeds,
        settings=_settings(small, worlds, scale),
        sections=[
            ("Fronts", f"Means over worlds.\n\n![fronts of two rewards]({FIGURE})"),
            *table_sections(small),
            _language_section(worlds),
        ],
        figures={FIGURE: front_figure([_small_panel(small), _language_panel(worlds)])},
    )


def _paired(worlds: Sequence[LanguageFront], read: Callable[[LanguageFront, str], float], other: str) -> Estimate:
    return over_known([read(world, language.MODPO_ARM) - read(world, other) for world in worlds])


def _language_claims(worlds: Sequence[LanguageFront]) -> list[Claim]:
    nats = over_worlds([world.nats for world in worlds])
    ran = f"MODPO minus {{}}, at the largest KL that all policies of a world reach ({with_interval(nats)} nats)"
    claims = []
    for other, name in ((language.MIXTURE, "a mixture of losses"), (language.SOUP, "soups")):
        for what, read, said in (
            ("area under the front", LanguageFront.volume, f"MODPO's front is above that of {name}"),
            ("weighted reward, mean over weights", LanguageFront.weighted,
             f"For the weighting that is asked for, MODPO's policies are better than {name}"),
        ):  # fmt: skip
            effect = _paired(worlds, read, other)
            claims.append(
                Claim(
                    f"{said} (language world).",
                    f"{PAPER}, comparison of fronts",
                    f"{what}, {ran.format(other)}",
                    f"{with_interval(effect)}, {effect.n} worlds",
                    judge(effect, claimed=1),
                )
            )
    return claims


def _settings(small: TableRuns, worlds: Sequence[LanguageFront], scale: Scale) -> dict[str, str]:
    agreement = over_worlds([world.agreement for world in worlds])
    return {
        "small worlds": f"{tables.WORLDS_PER_SEED} a seed; rewards with standard deviation 2 in the unit of "
        f"Bradley-Terry, {tables.FEW} or {tables.MANY:,} pairs of the reference's responses by each; "
        f"{len(small.weights)} weights; Adam on logits, {4 * scale.policy_steps} steps of 0.1",
        "margin": "the reward that DPO on the other comparisons implies",
        "equal KL in small worlds": "log-ratios to the reference are scaled, which is what another beta gives for all "
        "of these methods",
        "language world": f"{scale.pairs[-2]:,} comparisons of two samples of the start by coverage and as many "
        f"others by brevity; labels drawn with log-odds {language.SHARPNESS:g} for a standard deviation; the "
        f"rewards' correlation is {with_interval(agreement)}",
        "trainings in the language world": f"beta {language.BETA:g}, {steps_of(scale)} steps of AdamW 3e-4 with 32 "
        f"pairs; weights of coverage {', '.join(f'{weight:g}' for weight in weights_of(scale))}",
        "equal KL in the language world": "weights on the line from the start to the trained policy (shares "
        f"{', '.join(f'{share:g}' for share in language.SHARES)}), and straight lines in the root of the KL between",
        "mixture": "each pair is one of coverage's comparisons with probability w, so that the expected loss is the "
        "weighted sum",
        "left out": "reinforcement learning on the weighted sum in the language world, and so the paper's comparison "
        "of cost with it",
    }


def _language_section(worlds: Sequence[LanguageFront]) -> tuple[str, str]:
    rows: list[tuple[Cell, ...]] = [
        (
            arm,
            over_worlds([world.volume(arm) for world in worlds]),
            over_worlds([world.weighted(arm) for world in worlds]),
            over_worlds([float(world.trainings[arm]) for world in worlds]).value,
            over_worlds([world.seconds[arm] for world in worlds]),
        )
        for arm in language.ARMS
    ]
    header = ("method", "area under the front", "weighted reward", "trainings", "seconds of one core")
    reached: list[tuple[Cell, ...]] = [
        (arm, *(over_worlds([float(world.paths[arm][weight][-1, 0] ** 2) for world in worlds])
                for weight in sorted(worlds[0].paths[arm])))
        for arm in language.ARMS
    ]  # fmt: skip
    weights = [f"{weight:g}" for weight in sorted(worlds[0].paths[language.MODPO_ARM])]
    return "Language world: coverage against brevity", (
        "Gains over the start in its standard deviations within a prompt, at the largest KL that all policies of a "
        "world reach; trainings and seconds are those of a whole front, references and margins included.\n\n"
        + markdown_table(header, rows)
        + "\n\nKL of the trained policies to the start, nats, by the weight of coverage (0 and 1: DPO alone):\n\n"
        + markdown_table(("method", *weights), reached)
    )


def _small_panel(small: TableRuns) -> FrontPanel:
    arms = (tables.OPTIMUM, tables.MODPO_ARM, tables.MIXTURE, tables.SOUP)
    fronts = {arm: _means(small.fronts[tables.MANY][arm][_SHOWN_NATS].points) for arm in arms}
    title = f"small worlds, {_SHOWN_NATS:g} nats"
    return FrontPanel(title=title, axes=("first reward", "second reward"), fronts=fronts)


def _language_panel(worlds: Sequence[LanguageFront]) -> FrontPanel:
    fronts = {arm: _means(np.stack([world.points(arm) for world in worlds])) for arm in language.ARMS}
    return FrontPanel(title="language world, equal KL", axes=("coverage", "brevity"), fronts=fronts)


def _means(points: Float[np.ndarray, "worlds points 2"]) -> list[Point]:
    return [(float(first), float(second)) for first, second in points.mean(axis=0)]
