"""What small worlds say of MODPO: claims and tables."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.inpo_claims import judge_exact
from trueup.lab.reproduce.modpo_tables import (
    ARMS,
    FEW,
    LEARNED,
    MANY,
    MIXTURE,
    MODPO_ARM,
    NATS,
    SOUP,
    SWAPPED,
    TableRuns,
)
from trueup.lab.reproduce.policy_arms import judge_equal
from trueup.report.evidence import Claim, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

Array = np.ndarray

PAPER = "Zhou et al. 2024"
SAME = 0.02
"""Shares of the front's area that differ by less are taken to be equal."""
_SMALL = 0.2


def table_claims(runs: TableRuns) -> list[Claim]:
    """The claims about worlds in which every optimum is known."""
    return [_optimum_claim(runs), *_front_claims(runs), *_weight_claims(runs)]


def _optimum_claim(runs: TableRuns) -> Claim:
    worst, count = float(runs.difference.max()), len(runs.difference)
    return Claim(
        "MODPO has the optimum of multi-objective RLHF, whichever objective's preferences it is trained on.",
        f"{PAPER}, the derivation of the loss",
        f"{count} random worlds, weights 0.1, 0.5 and 0.9, all pairs of either reward with their exact frequencies; "
        "largest difference of a probability from pi_ref e^(w r / beta)",
        f"{worst:.1e}",
        judge_exact(worst),
    )


def _claim(
    statement: str, values: Float[Array, " worlds"], *, ran: str, source: str, claimed: Literal[1, -1] = 1
) -> Claim:
    effect = over_worlds(values.tolist())
    shown = f"{with_interval(effect, digits=3)}, {effect.n} worlds"
    return Claim(statement, source, ran, shown, judge(effect, claimed=claimed))


def _front_claims(runs: TableRuns) -> list[Claim]:
    def volume(arm: str) -> Float[Array, " worlds"]:
        return runs.mean(MANY, arm, "volume")

    ran = f"area under the front at equal KL ({', '.join(f'{nats:g}' for nats in NATS)} nats, mean), as a share of " \
        f"the closed form's; {MANY:,} pairs of each reward"  # fmt: skip
    same = over_worlds((volume(MODPO_ARM) - volume(LEARNED)).tolist())
    return [
        Claim(
            "MODPO's front is as good as that of reinforcement learning on the learned rewards.",
            f"{PAPER}, comparison with multi-objective RLHF",
            f"{ran}; MODPO minus the closed form with the rewards that DPO learned, within {SAME:g} counts as equal",
            f"{with_interval(same, digits=3)}, {same.n} worlds",
            judge_equal(same, margin=SAME),
        ),
        _claim(
            "MODPO's front is above that of a mixture of losses.",
            volume(MODPO_ARM) - volume(MIXTURE),
            ran=f"{ran}; MODPO minus mixture",
            source=f"{PAPER}, comparison with loss weighting",
        ),
        _claim(
            "MODPO's front is above that of soups.",
            volume(MODPO_ARM) - volume(SOUP),
            ran=f"{ran}; MODPO minus soup. The weights of a table are log-probabilities, so that a soup is the closed "
            "form with learned rewards: nothing can be gained",
            source=f"{PAPER}, comparison with weight interpolation",
        ),
    ]


def _weight_claims(runs: TableRuns) -> list[Claim]:
    small = [place for place, weight in enumerate(runs.weights) if weight <= _SMALL] or [0]

    def shortfall(pairs: int, arm: str, places: list[int] | None = None) -> Float[Array, " worlds"]:
        found = runs.mean(pairs, arm, "shortfall")
        return np.asarray((found if places is None else found[:, places]).mean(axis=1))

    ran = "missing of w r_1 + (1 - w) r_2 beside the closed form at equal KL"
    few = [arm for arm in (MODPO_ARM, SWAPPED)]
    return [
        _claim(
            "For the weighting that is asked for, MODPO leaves less to be gained than a mixture of losses.",
            shortfall(MANY, MIXTURE) - shortfall(MANY, MODPO_ARM),
            ran=f"{ran}, mean over weights; mixture minus MODPO, {MANY:,} pairs of each reward",
            source=f"{PAPER}, the derivation of the loss: mixing likelihoods is not mixing rewards",
        ),
        _claim(
            "With few pairs and small w, MODPO is better trained on the other objective's preferences.",
            shortfall(FEW, few[0], small) - shortfall(FEW, few[1], small),
            ran=f"{ran}, weights of at most {_SMALL:g}; trained on the first reward's pairs minus on the second's, "
            f"{FEW:,} pairs of each",
            source="asked here: logits grow as 1 / w",
        ),
    ]  # fmt: skip


def table_sections(runs: TableRuns) -> list[tuple[str, str]]:
    """Tables of the small worlds."""
    parts = []
    for pairs in (MANY, FEW):
        rows: list[tuple[Cell, ...]] = [
            (
                arm,
                *(over_worlds(front.volume.tolist()) for front in runs.fronts[pairs][arm].values()),
                over_worlds(runs.mean(pairs, arm, "shortfall").mean(axis=1).tolist()),
            )
            for arm in ARMS
        ]
        header = ("method", *(f"area at {nats:g} nats" for nats in NATS), "missing, mean over weights and KLs")
        parts.append(f"{pairs:,} pairs of each reward:\n\n{markdown_table(header, rows, digits=3)}")
    note = (
        "Area under the front as a share of the closed form's with true rewards, above the corner of what either "
        "reward alone leaves of the other; and how much of the weighted reward is missing. A front of few points may "
        "have more area than the closed form's where its points lie better."
    )
    return [("Small worlds: fronts at equal KL", "\n\n".join([note, *parts]))]
