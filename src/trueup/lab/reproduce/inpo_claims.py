"""What rounds of play say of INPO: claims, tables and figures."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.inpo_games import (
    BETAS,
    EXACT_ETAS,
    EXACT_ROUNDS,
    HASTY,
    INPO_ARM,
    NO_KL,
    ORACLE,
    REWARD,
    SLOW_TOURNAMENT,
    TAU,
    TOURNAMENT,
    InpoRuns,
    Part,
    Track,
    strengths,
    with_beta,
)
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Verdict, judge
from trueup.report.frontier import over_steps
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import DASH, Cell

Array = np.ndarray

PAPER = "Zhang et al. 2025"
_LEFT = 0.05
"""What may be left of the gap where a policy counts as converged."""
_EXACT, _WRONG = 1e-3, 0.05
"""Largest difference of a probability where a minimiser was found, and where it is another one."""


def claims_of(runs: InpoRuns) -> list[Claim]:
    """The claims."""
    return [
        *_exact_claims(runs),
        *(claim for part in (runs.circular, runs.sequences) for claim in (*_rival_claims(part), *_own_claims(part))),
        _ordered_claim(runs),
    ]


def gap_beyond(part: Part, arm: str) -> Float[Array, " games"]:
    """Last gap of DPO, in each game with the strength that is best in the others, minus INPO's."""
    return _at_best(part, strengths(arm), "gap") - part.tracks[INPO_ARM].gap[:, -1]


def _at_best(part: Part, names: Sequence[str], what: Literal["gap", "worst"]) -> Float[Array, " games"]:
    return np.array([getattr(part.tracks[name], what)[place, -1] for place, name in enumerate(part.best_of(names))])


def _claim(
    statement: str, values: Float[Array, " games"], *, ran: str, source: str, claimed: Literal[1, -1] = 1
) -> Claim:
    effect = over_worlds(values.tolist())
    shown = f"{with_interval(effect, digits=3)}, {effect.n} games"
    return Claim(statement, source, ran, shown, judge(effect, claimed=claimed))


def _exact_claims(runs: InpoRuns) -> list[Claim]:
    worst, count = float(runs.difference.max()), len(runs.difference)
    left = runs.exact[EXACT_ETAS[-1]][:, EXACT_ROUNDS.index(50)] / runs.exact[EXACT_ETAS[-1]][:, 0]
    converged = over_worlds(left.tolist())
    verdict: Verdict = judge(_minus(_LEFT, converged), claimed=1)
    return [
        Claim(
            "The squared loss on pairs of the policy has the step of mirror descent as its minimiser.",
            f"{PAPER}, the proposition that the loss rests on",
            f"{count} random games of 8 responses, all pairs with their exact frequencies; largest difference of a "
            "probability after Adam on the objective",
            f"{worst:.1e}",
            judge_exact(worst),
        ),
        Claim(
            "The last policy, not only the average, comes to the Nash policy.",
            f"{PAPER}, theorem on the last iterate",
            f"exact rounds, tau {TAU:g}, eta {EXACT_ETAS[-1]:g}: share of the duality gap that is left after 50 "
            f"rounds, less than {_LEFT:g} asked for",
            f"{with_interval(converged, digits=4)}, {converged.n} games",
            verdict,
        ),
        _claim(
            "eta must be large enough for tau: steps that are too long do not converge.",
            runs.circular.tracks[HASTY].gap[:, -1] - runs.circular.tracks[INPO_ARM].gap[:, -1],
            ran=f"learned rounds, last duality gap with eta = tau = {TAU:g} minus that with eta {runs.circular.eta:g}",
            source=f"{PAPER}, theorem on the last iterate: 8 C^2 / eta^2",
        ),
    ]  # fmt: skip


def judge_exact(difference: float) -> Verdict:
    """What a largest difference of probabilities says; one between the two bounds may be too little descent."""
    if difference < _EXACT:
        return "reproduced"
    return "contradicted" if difference > _WRONG else "not at this scale"


def _minus(level: float, effect: Estimate) -> Estimate:
    return Estimate(level - effect.value, level - effect.high, level - effect.low, effect.n)


_STRENGTH = "DPO in each game with the beta that is best in the others"


def _rival_claims(part: Part) -> list[Claim]:
    """INPO against iterated DPO."""
    where, tracks = part.name, part.tracks
    return [
        _claim(
            f"INPO ends nearer to the Nash policy than iterated DPO ({where}).",
            gap_beyond(part, ORACLE),
            ran=f"last duality gap, DPO on the oracle's choices minus INPO; {_STRENGTH}",
            source=f"{PAPER}, comparison with iterative DPO (preference model)",
        ),
        _claim(
            f"INPO ends nearer to it than iterated DPO on a fitted Bradley-Terry reward ({where}).",
            gap_beyond(part, REWARD),
            ran=f"last duality gap, DPO on the reward minus INPO; {_STRENGTH}",
            source=f"{PAPER}, comparison with iterative DPO (reward model)",
        ),
        _claim(
            f"INPO's responses are preferred to those of iterated DPO ({where}).",
            _head_to_head(part) - 0.5,
            ran=f"win rate of the last policies minus one half; {_STRENGTH}, on the oracle's choices",
            source=f"{PAPER}, tables of win rates",
        ),
        _claim(
            f"INPO holds out better against the best response ({where}).",
            tracks[INPO_ARM].worst[:, -1] - _at_best(part, strengths(ORACLE), "worst"),
            ran="win rate against the response that beats the policy most often, INPO minus DPO on the oracle's "
            f"choices; {_STRENGTH}",
            source="asked here: what an equilibrium is for",
        ),
    ]


def _own_claims(part: Part) -> list[Claim]:
    """What rewards, the KL and tournaments do."""
    where, tracks, collapse = part.name, part.tracks, with_beta(REWARD, BETAS[0])
    return [
        _claim(
            f"A policy that optimises a fitted reward collapses, and INPO keeps a mixture ({where}).",
            tracks[collapse].largest - tracks[INPO_ARM].largest,
            ran=f"share of the most frequent {_unit(part)} at the end, {collapse} minus INPO",
            source=f"{PAPER}, why preferences beyond Bradley-Terry",
        ),
        _claim(
            f"The KL helps ({where}).",
            tracks[INPO_ARM].worst[:, -1] - tracks[NO_KL].worst[:, -1],
            ran=f"win rate against the best response, tau {TAU:g} minus tau 0, eta {part.eta:g}",
            source=f"{PAPER}, ablation of the KL",
        ),
        _claim(
            f"Best against worst of eight, which the proof does not cover, ends farther from Nash ({where}).",
            _at_best(part, (TOURNAMENT, SLOW_TOURNAMENT), "gap") - tracks[INPO_ARM].gap[:, -1],
            ran="last duality gap, pairs by tournament (eta, or three times that, by what is better in the other "
            f"games) minus independent pairs; {tracks[TOURNAMENT].calls:,} against {tracks[INPO_ARM].calls:,} "
            "questions to the oracle",
            source="asked here; the paper runs tournaments",
        ),
    ]


def _unit(part: Part) -> str:
    return "kind of response" if part.name == "sequences" else "response"


def _head_to_head(part: Part) -> Float[Array, " games"]:
    names = part.best_of(strengths(ORACLE))
    found = {name: part.head_to_head(INPO_ARM, name) for name in set(names)}
    return np.array([found[name][place] for place, name in enumerate(names)])


def _ordered_claim(runs: InpoRuns) -> Claim:
    return _claim(
        "INPO's lead comes from the circles: it is smaller where preferences follow a reward.",
        gap_beyond(runs.circular, ORACLE) - gap_beyond(runs.ordered, ORACLE),
        ran="how much smaller INPO's last duality gap is than that of DPO on the oracle's choices, tables without "
        "order minus tables with a reward",
        source="asked here: a control",
    )


def sections_of(runs: InpoRuns, figures: dict[str, str]) -> list[tuple[str, str]]:
    """Tables, and the figures beside their games."""
    names = list(figures)
    exact = f"{_exact_table(runs)}\n\nThe gap of a policy is 0 at the Nash policy alone."
    return [
        ("Exact rounds: duality gap", exact),
        (
            "Tables: eight responses without any order",
            f"![gap along the rounds]({names[0]})\n\n{_table(runs.circular)}",
        ),
        ("Sequences of three kinds", f"![gap along the rounds]({names[1]})\n\n{_table(runs.sequences)}"),
        ("Tables whose preferences follow a reward", _table(runs.ordered)),
    ]


def _shown(figure: str, part: Part) -> str:
    return f"![gap along the rounds]({figure})\n\n{_table(part)}"


def _exact_table(runs: InpoRuns) -> str:
    arms = {f"mirror descent, eta {eta:g}": gap for eta, gap in runs.exact.items()} | {"best response": runs.greedy}
    rows: list[tuple[Cell, ...]] = [
        (name, *(over_worlds(column.tolist()) for column in gap.T)) for name, gap in arms.items()
    ]
    return markdown_table(("rounds", *map(str, EXACT_ROUNDS)), rows, digits=4)


def _table(part: Part) -> str:
    rows: list[tuple[Cell, ...]] = [_row(name, track) for name, track in part.tracks.items()]
    header = ("method", "gap at the start", "gap at the end", "win rate against the best response",
              f"largest share of a {_unit(part)}", "questions to the oracle", "tournaments without a pair")  # fmt: skip
    return markdown_table(header, rows, digits=3)


def _row(name: str, track: Track) -> tuple[Cell, ...]:
    values = (track.gap[:, 0], track.gap[:, -1], track.worst[:, -1], track.largest)
    return (
        name,
        *(over_worlds(one.tolist()) for one in values),
        f"{track.calls:,}",
        f"{track.dropped:.0%}" if track.dropped else DASH,
    )


def figures_of(runs: InpoRuns) -> dict[str, str]:
    """Gap and worst win rate along the rounds."""
    return {
        "inpo-tables.svg": _figure(runs.circular, [INPO_ARM, TOURNAMENT, NO_KL, HASTY]),
        "inpo-sequences.svg": _figure(runs.sequences, [INPO_ARM, TOURNAMENT, NO_KL]),
    }


def _figure(part: Part, arms: Sequence[str]) -> str:
    shown = [*arms, *(with_beta(arm, _favourite(part, arm)) for arm in (ORACLE, REWARD))]
    panels = {"duality gap by round": "gap", "win rate against the best response": "worst"}
    return over_steps({
        title: {arm: _line(getattr(part.tracks[arm], what)) for arm in shown} for title, what in panels.items()
    })  # fmt: skip


def _favourite(part: Part, arm: str) -> float:
    """The strength whose last gap is smallest on average."""
    return min(BETAS, key=lambda beta: float(part.tracks[with_beta(arm, beta)].gap[:, -1].mean()))


def _line(values: Float[Array, "games rounds"]) -> tuple[list[float], list[Estimate]]:
    return list(map(float, range(values.shape[1]))), [over_worlds(column.tolist()) for column in values.T]
