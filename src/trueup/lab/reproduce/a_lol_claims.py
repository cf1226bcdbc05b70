"""What bandits and the language world say of A-LoL: claims and tables."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from trueup.lab.reproduce import a_lol_bandits as bandit
from trueup.lab.reproduce import a_lol_language as language
from trueup.lab.reproduce.a_lol_bandits import NOISES, BanditRuns
from trueup.lab.reproduce.a_lol_language import ALolWorld
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.policy_arms import over_known
from trueup.report.evidence import Claim, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Baheti et al. 2024"
RESULTS = f"{PAPER}, experiments"
ASKED = "asked here"


def bandit_claims(runs: BanditRuns) -> list[Claim]:
    """The order of the methods, and what noise, filter and priorities do."""
    noisy, clean = NOISES[-1], NOISES[0]
    order = (
        (bandit.BEHAVIOUR, bandit.LONGER, "Weighted cloning earns more than likelihood"),
        (bandit.REF_FREE, bandit.BEHAVIOUR, "A-LoL without a reference earns more than weighted cloning"),
        (bandit.A_LOL, bandit.REF_FREE, "The ratio helps: A-LoL earns more than A-LoL without a reference"),
        (bandit.A_LOL, bandit.R_LOL, "The advantage helps: A-LoL earns more than R-LoL"),
        (bandit.A_LOL, bandit.KL_ARM, "A-LoL earns more than A-LoL KL"),
        (bandit.SEQ, bandit.A_LOL, "A ratio for each token helps: A-LoL seq earns more than A-LoL"),
        (bandit.A_LOL, bandit.NO_PRIORITY, "Drawing in proportion to the advantage helps A-LoL"),
        (bandit.NO_PRIORITY, bandit.NO_FILTER, "Leaving out what has no positive advantage helps A-LoL at equal steps"),
    )
    claims = [
        _bandit_claim(f"{said} (bandits).", np.mean([runs.difference(one, other, noise) for noise in NOISES], axis=0),
                      ran=f"{one} minus {other}, mean over noises {', '.join(f'{noise:g}' for noise in NOISES)}")
        for one, other, said in order
    ]  # fmt: skip
    opened = runs.difference(bandit.A_LOL, bandit.R_LOL, noisy) - runs.difference(bandit.A_LOL, bandit.R_LOL, clean)
    return [
        *claims,
        _bandit_claim(
            "The worse the data, the more the advantage helps (bandits).",
            opened,
            ran=f"A-LoL minus R-LoL at noise {noisy:g}, minus the same at noise {clean:g}",
        ),
        _bandit_claim(
            "A-LoL on poor data earns more than likelihood on good data (bandits).",
            runs.reward[NOISES[1]][bandit.A_LOL] - runs.reward[clean][bandit.NLL],
            ran=f"A-LoL at noise {NOISES[1]:g} minus likelihood at noise {clean:g}",
            source=f"{PAPER}, training on downvoted comments",
        ),
    ]


def _bandit_claim(statement: str, values: np.ndarray, *, ran: str, source: str = RESULTS) -> Claim:
    effect = over_worlds(values.tolist())
    shown = f"{with_interval(effect, digits=3)}, {effect.n} seeds"
    return Claim(statement, source, f"mean reward, {ran}", shown, judge(effect, claimed=1))


def language_claims(worlds: Sequence[ALolWorld]) -> list[Claim]:
    """The same in the language world, and the comparison with DPO."""
    gold = "gold of responses, {} minus {}, equal steps; standard deviations of the start's"
    order = (
        (language.A_LOL, language.LONGER, "A-LoL gives more gold than fine-tuning on the same data", RESULTS),
        (language.A_LOL, language.BEHAVIOUR, "A-LoL gives more gold than weighted cloning", RESULTS),
        (language.A_LOL, language.R_LOL, "A-LoL gives more gold than R-LoL", RESULTS),
        (language.A_LOL, language.REF_FREE, "A-LoL gives more gold than A-LoL without a reference", RESULTS),
        (language.SEQ, language.A_LOL, "A-LoL seq is the best variant", f"{PAPER}, helpful and harmless assistant"),
        (language.NO_PRIORITY, language.UNFILTERED, "Leaving out negative advantages is better than pushing such "
         "responses down", ASKED),
        (language.A_LOL, language.DPO_ARM, "A-LoL gives more gold than DPO", f"{ASKED}; the paper: on par or behind"),
    )  # fmt: skip
    claims = [
        _claim(f"{said}.", [_difference(world, one, other, what="gold") for world in worlds],
               ran=gold.format(one, other), source=source)
        for one, other, said, source in order
    ]  # fmt: skip
    for other in (language.R_LOL, language.DPO_ARM):
        claims.append(
            _claim(
                f"A-LoL gives more gold than {other} at equal KL.",
                [world.at_equal_kl(language.A_LOL, other) for world in worlds],
                ran="gold at the largest KL to the reference that both reach, on the lines of weights from it",
                source=ASKED,
            )
        )
    return [*claims, *_style_claims(worlds), _kept_claim(worlds)]


def _style_claims(worlds: Sequence[ALolWorld]) -> list[Claim]:
    claims = []
    for what, said in (("distinct", "more diverse"), ("tokens", "longer")):
        values = [_difference(world, language.SEQ, language.DPO_ARM, what=what) for world in worlds]
        unit = "share of pairs of words that differ among a prompt's responses" if what == "distinct" else "tokens"
        claims.append(
            _claim(f"Responses of A-LoL seq are {said} than those of DPO.", values,
                   ran=f"{unit}, A-LoL seq minus DPO", source=f"{PAPER}, helpful and harmless assistant")
        )  # fmt: skip
    return claims


def _kept_claim(worlds: Sequence[ALolWorld]) -> Claim:
    return _claim(
        "The advantage tells good responses from bad: more of those that answer their prompt are kept.",
        [world.kept[0] - world.kept[1] for world in worlds],
        ran="share with a positive advantage, responses to their own prompt minus responses to another",
        source=f"{PAPER}, method",
    )


def _difference(world: ALolWorld, one: str, other: str, *, what: str) -> float:
    return float(getattr(world.arms[one], what) - getattr(world.arms[other], what))


def _claim(statement: str, values: Sequence[float], *, ran: str, source: str, claimed: Literal[1, -1] = 1) -> Claim:
    effect = over_known(values)
    return Claim(statement, source, ran, f"{with_interval(effect)}, {effect.n} worlds", judge(effect, claimed=claimed))


def sections_of(runs: BanditRuns, worlds: Sequence[ALolWorld]) -> list[tuple[str, str]]:
    """Tables of both parts."""
    return [
        ("Bandits: mean reward by noise", _bandit_table(runs)),
        ("Language world: half of the data answer another prompt", _language_table(worlds)),
    ]


def _bandit_table(runs: BanditRuns) -> str:
    rows: list[tuple[Cell, ...]] = [
        (name, *(over_worlds(runs.reward[noise][name].tolist()) for noise in NOISES)) for name in runs.reward[NOISES[0]]
    ]
    rows.append(("kept by the filter", *(over_worlds(runs.kept[noise].tolist()) for noise in NOISES)))
    return markdown_table(("method", *(f"noise {noise:g}" for noise in NOISES)), rows, digits=3)


def _language_table(worlds: Sequence[ALolWorld]) -> str:
    columns: dict[str, Callable[[language.Spoken], float]] = {
        "gold above the reference": lambda one: one.gold,
        "distinct pairs of words": lambda one: one.distinct,
        "tokens": lambda one: one.tokens,
        "KL to the reference, nats": lambda one: one.nats,
    }
    rows: list[tuple[Cell, ...]] = [
        (name, *(over_worlds([read(world.arms[name]) for world in worlds]) for read in columns.values()))
        for name in worlds[0].arms
    ]
    own, other = (over_worlds([world.kept[place] for world in worlds]) for place in (0, 1))
    told = over_known([world.value for world in worlds])
    return (
        f"{markdown_table(('method', *columns), rows)}\n\nThe filter keeps {with_interval(own, 'percent', digits=0)} "
        f"of the responses to their own prompt and {with_interval(other, 'percent', digits=0)} of the others. "
        "The value head's predictions correlate with the mean rewards that they were learned from at "
        f"{with_interval(told)}."
    )
