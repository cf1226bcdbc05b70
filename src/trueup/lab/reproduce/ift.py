"""IFT against SFT and preference methods, on Frozen Lake and on problems with a verifier.

**Source** Hua et al. (2025), Intuitive Fine-Tuning: Towards Simplifying Alignment into a Single Process, ACL 2025,
arXiv 2405.11870.
"""

from collections.abc import Sequence
from typing import Any, Literal

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.h_dpo_runs import over_seeds, world_plan
from trueup.lab.reproduce.ift_runs import (
    ALIKE,
    BETA,
    BETA_ALONE,
    DPO_RATE,
    EXAMPLES,
    FULL,
    MIXED,
    ON_LAKE,
    ON_PROBLEMS,
    ONLY_DPO,
    ORPO,
    PAPER,
    PREFERRED,
    RATE,
    SFT,
    WEIGHTED,
    LakeWorld,
    ProblemWorld,
    lake_plan,
    lake_scale,
    run_lake,
    run_problems,
)
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.dots import Scale as Axis
from trueup.report.dots import forest
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

SOURCE = "Hua et al. 2025"
ASKED = "asked here"

_LEAD = (
    "SFT scores each token after a prefix that the policy itself might not have produced. IFT, too, learns from "
    "examples alone, but reads prefixes into which its own prediction is mixed (a fifth of each token), and weighs a "
    "token by the losses that follow it. The paper reports that it does as well as SFT followed by preference "
    "learning, and shows on Frozen Lake that its policy is nearer to the optimal one than SFT's and ORPO's, though "
    "not than DPO's. Here a language model of walks at random on the lake learns from few expert walks, and one that "
    "learned to add and to take away from workings with mistakes learns from few right ones. All methods take equal "
    "steps; where preferences are learned from, rejected walks are walks at random, and rejected workings the "
    "policy's own wrong ones, which takes a verifier that IFT does without."
)


def ift(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the lakes and the worlds and write down what became of the paper's claims."""
    lakes = over_seeds(run_lake, lake_scale(scale), progress=progress)
    return evidence_of(lakes, over_seeds(run_problems, scale, progress=progress), scale=scale, command=command)


def evidence_of(lakes: Sequence[LakeWorld], worlds: Sequence[ProblemWorld], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    nearer, solved = _lake(lakes, FULL, SFT, "distance"), _problems(worlds, FULL, SFT, "sampled")
    return Evidence(
        name="ift",
        title="Does IFT learn more from the same examples than SFT?",
        lead=_LEAD,
        finding=f"IFT minus SFT: squared distance from the lake's optimal policy {with_interval(nearer, digits=3)}, "
        f"problems solved {with_interval(solved, 'percent', digits=1)}",
        claims=[*_lake_claims(lakes), *_problem_claims(worlds)],
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(lakes, worlds, scale),
        sections=_sections(lakes, worlds),
        figures={"ift-lake.svg": _lake_figure(lakes), "ift-problems.svg": _problem_figure(worlds)},
    )


def _lake(lakes: Sequence[LakeWorld], one: str, other: str, what: str) -> Estimate:
    """A measure of one method minus another's, over lakes."""
    return over_worlds([getattr(lake.walked[one], what) - getattr(lake.walked[other], what) for lake in lakes])


def _problems(worlds: Sequence[ProblemWorld], one: str, other: str, what: str) -> Estimate:
    """The same over worlds of arithmetic."""
    return over_worlds([getattr(w.answered[one], what) - getattr(w.answered[other], what) for w in worlds])


def _claim(
    statement: str, effect: Estimate, *, ran: str, claimed: Literal[1, -1], source: str = SOURCE, percent: bool = False
) -> Claim:
    words = with_interval(effect, "percent", digits=1) if percent else with_interval(effect, digits=3)
    return Claim(statement, source, ran, words, judge(effect, claimed=claimed))


def _lake_claims(lakes: Sequence[LakeWorld]) -> list[Claim]:
    paper = f"{SOURCE}, Frozen Lake"
    ran = "squared distance of the moves' probabilities, mean over cells"
    claims = [
        _claim(f"{one} is nearer to the optimal policy than {other} (lake).", _lake(lakes, one, other, "distance"),
               ran=f"{ran}; {one} minus {other}", claimed=-1, source=source)
        for one, other, source in (
            (FULL, SFT, paper),
            (FULL, ORPO, paper),
            (PREFERRED, FULL, f"{paper}: DPO is nearest"),
            (ONLY_DPO, FULL, f"{paper}: DPO is nearest"),
            (PAPER, SFT, f"{SOURCE}, the loss as written"),
            (MIXED, ALIKE, ASKED),
            (WEIGHTED, ALIKE, ASKED),
        )
    ]  # fmt: skip
    return [
        *claims,
        _claim(
            "In the cells that its own walks meet, IFT is nearer, too (lake).",
            _lake(lakes, FULL, SFT, "met"),
            ran=f"mean over the moves of {lake_walks(lakes)}; IFT minus SFT",
            claimed=-1,
            source=ASKED,
        ),
        _claim(
            "IFT reaches the goal more often than SFT (lake).",
            _lake(lakes, FULL, SFT, "success"),
            ran=f"share of {lake_walks(lakes)}; IFT minus SFT",
            claimed=1,
            source=ASKED,
            percent=True,
        ),
    ]


def lake_walks(lakes: Sequence[LakeWorld]) -> str:
    """Which walks are looked at, in words."""
    return f"a policy's own walks from the first cell, {len(lakes)} lakes"


def _problem_claims(worlds: Sequence[ProblemWorld]) -> list[Claim]:
    ran = "right results at temperature 1"
    pairs = (
        (FULL, SFT, f"{SOURCE}, generation and reasoning"),
        (FULL, PREFERRED, f"{SOURCE}, comparable or superior to SFT with preference learning"),
        (PAPER, SFT, f"{SOURCE}, the loss as written"),
        (MIXED, ALIKE, ASKED),
        (WEIGHTED, ALIKE, ASKED),
    )
    claims = [
        _claim(f"{one} solves more than {other} (problems).", _problems(worlds, one, other, "sampled"),
               ran=f"{ran}, {one} minus {other}", claimed=1, source=source, percent=True)
        for one, other, source in pairs
    ]  # fmt: skip
    loss = _claim(
        "After right prefixes IFT predicts worse than SFT (problems).",
        _problems(worlds, FULL, SFT, "loss"),
        ran="teacher-forced loss on right workings of other problems, nats a token, IFT minus SFT",
        claimed=1,
        source=f"{SOURCE}, what SFT over-estimates",
    )
    return [*claims, loss]


def _settings(lakes: Sequence[LakeWorld], worlds: Sequence[ProblemWorld], scale: Scale) -> dict[str, str]:
    lake, plan = lake_plan(scale, 0), world_plan(scale, 0)
    policy, examples = plan.policy, min(EXAMPLES, plan.problems)
    return {
        "lake": f"4x4, {lake.lake.slip:.0%} of moves slip to a side; walks of at most {lake.lake.limit} moves; the "
        f"optimal policy of discount {lake.lake.discount:g} reaches the goal in {lakes[0].optimal:.0%}",
        "lake, start": f"{lake.shape.layers} layers of width {lake.shape.width}, {lake.walks:,} walks at random; a "
        "walk is moves and cells in turn, all of which are learned",
        "lake, methods": f"{lake.experts} walks of the optimal policy from random cells, those that reach the goal; "
        f"{lake.steps} steps of {lake.batch_size}, AdamW {lake.learning_rate:g}",
        "problems, start": f"{policy.shape.layers} layers of width {policy.shape.width}, {policy.slip:.0%} of numbers "
        "off by one in its text",
        "problems, methods": f"{examples} right workings, one a problem; equal steps for all, AdamW {RATE:g}",
        "worlds": f"{len(lakes)} lakes and {len(worlds)} of arithmetic, each its own start, examples and order",
        "preferences": f"after SFT, half of the steps each, DPO with beta {BETA:g} and AdamW {lake.second_rate:g} on "
        f"the lake, {DPO_RATE:g} on problems; DPO alone with beta {BETA_ALONE:g}; ORPO with lambda 0.1; "
        "DPO's settings are the best of a few that were tried on the first lakes",
        "IFT": "mix 0.2, gamma 0.95, the weights differentiated, as released",
    }


def _sections(lakes: Sequence[LakeWorld], worlds: Sequence[ProblemWorld]) -> list[tuple[str, str]]:
    on_lake = ("distance", "met", "success")
    lake_rows = _rows([("start", [lake.start for lake in lakes])]
                      + [(name, [lake.walked[name] for lake in lakes]) for name in ON_LAKE], on_lake)  # fmt: skip
    on_problems = ("sampled", "greedy", "loss")
    rows = _rows([("start", [world.start for world in worlds])]
                 + [(name, [world.answered[name] for world in worlds]) for name in ON_PROBLEMS],
                 on_problems)  # fmt: skip
    header = ("method", "distance, every cell", "distance, own walks", "reaches the goal")
    solved = ("method", "right, temperature 1", "right, likeliest tokens", "loss after right prefixes")
    return [
        (
            "Frozen Lake",
            "![squared distance from the optimal policy](ift-lake.svg)\n\n"
            + markdown_table(header, lake_rows, digits=3),
        ),
        ("Problems", f"![problems solved](ift-problems.svg)\n\n{markdown_table(solved, rows, digits=3)}"),
    ]


def _rows(found: Sequence[tuple[str, Sequence[Any]]], names: Sequence[str]) -> list[tuple[Cell, ...]]:
    return [(label, *(over_worlds([getattr(one, name) for one in each]) for name in names)) for label, each in found]


def _lake_figure(lakes: Sequence[LakeWorld]) -> str:
    series = {
        words: {name: over_worlds([getattr(lake.walked[name], what) for lake in lakes]) for name in ON_LAKE}
        for words, what in (("every cell", "distance"), ("own walks", "met"))
    }
    return forest(series, Axis(label="squared distance from the optimal policy"))


def _problem_figure(worlds: Sequence[ProblemWorld]) -> str:
    series = {
        words: {name: over_worlds([getattr(w.answered[name], what) for w in worlds]) for name in ON_PROBLEMS}
        for words, what in (("temperature 1", "sampled"), ("likeliest tokens", "greedy"))
    }
    return forest(series, Axis(label="problems solved", style="percent"))
