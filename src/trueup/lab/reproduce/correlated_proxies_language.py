"""Chi-squared against KL to hold a policy to its start, in the small language world.

A response is one action in the state that its prompt is, so that occupancies and distributions of actions coincide.

**Source** Laidlaw, Singhal, Dragan (2025), Correlated Proxies: A New Definition and Improved Mitigation for Reward
Hacking, arXiv 2403.03185.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float

from trueup.lab.policy_runs import PolicyRun
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
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.policy_arms import PolicyWorld, final_of, over_known, paired_at, run_policies, shared_kls
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, named_kls, optimization_settings
from trueup.lab.reproduce.policy_plans import FREE, plain, varied
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.objectives.policy.regularizers.released_kl import ReleasedKL
from trueup.objectives.policy.regularizers.released_sqrt_chi_squared import ReleasedSqrtChiSquared
from trueup.objectives.policy.regularizers.reverse_kl import ReverseKL
from trueup.objectives.policy.regularizers.sqrt_chi_squared import SqrtChiSquared
from trueup.objectives.policy.rloo import RLOO
from trueup.report.evidence import Claim, Evidence
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell
from trueup.types import OnlineObjective

Array = np.ndarray

PAPER = "Laidlaw et al. 2025"
FIGURE = "correlated-proxies-language.svg"
KL = ("KL 0.05", "KL 0.2")
CHI = ("sqrt-chi2 0.02", "sqrt-chi2 0.1")
RELEASED_KL, RELEASED_CHI = "KL 0.2, as released", "sqrt-chi2 0.1, as released"
TERMS: Mapping[str, OnlineObjective] = {
    KL[0]: ReverseKL(coefficient=0.05),
    KL[1]: ReverseKL(coefficient=0.2),
    CHI[0]: SqrtChiSquared(coefficient=0.02),
    CHI[1]: SqrtChiSquared(coefficient=0.1),
    RELEASED_KL: ReleasedKL(coefficient=0.2),
    RELEASED_CHI: ReleasedSqrtChiSquared(coefficient=0.1),
}
ARMS = (FREE, *TERMS)

_LEAD = (
    "The paper defines hacking relative to a reference policy, proves that the root of the chi-squared divergence "
    "bounds the loss, and finds that it holds a policy better than KL does. [Small worlds](correlated-proxies.md) say "
    "so with exact occupancies; here a prompt is a state and a whole response one action, so that the divergence "
    "between occupancies is that between policies. RLOO optimises a proxy that learned from gold's comparisons; a "
    "term of its loss holds it to the start: KL or the root of chi-squared, with gradients that are exact on policy, "
    "or the terms of the released code, whose gradients are those of other divergences. Gold is in standard "
    "deviations of the start's samples to one prompt, above the start's mean."
)

Read = Callable[[PolicyWorld, str], float]


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """RLOO alone, and with each term in its loss."""
    free = plain(scale, seed)
    return {FREE: free, **{name: varied(free, terms=(RLOO(), term)) for name, term in TERMS.items()}}


def correlated_proxies_language(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    return evidence_of(run_policies(scale, arms, progress=progress), scale=scale, command=command)


def evidence_of(worlds: Sequence[PolicyWorld], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    return Evidence(
        name="correlated-proxies-language",
        title="Does chi-squared hold a policy better than KL, in the small language world?",
        lead=_LEAD,
        finding="gold at the last look, sqrt-chi2 minus KL, each with its better coefficient: "
        f"{with_interval(difference_at_best(worlds, read=final_of))}",
        command=command,
        seeds=scale.seeds,
        claims=[*_best_claims(worlds), *_equal_claims(worlds), *_released_claims(worlds)],
        settings=_settings(worlds, scale),
        sections=_sections(worlds),
        figures={FIGURE: gold_and_proxy_figure(worlds, ARMS)},
    )


def at_best(
    worlds: Sequence[PolicyWorld], names: Sequence[str], *, read: Read, chosen_by: Read = final_of
) -> Float[Array, " worlds"]:
    """One value of each world with the coefficient that is best on average over the other worlds.

    Args:
        worlds: What was run; a single world chooses for itself.
        names: Arms of one penalty, by coefficient.
        read: The value.
        chosen_by: What the best has most of.
    """
    merit = np.array([[chosen_by(world, name) for name in names] for world in worlds])
    values = []
    for place, world in enumerate(worlds):
        others = np.delete(merit, place, axis=0) if len(worlds) > 1 else merit
        values.append(read(world, names[int(others.mean(axis=0).argmax())]))
    return np.array(values)


def difference_at_best(worlds: Sequence[PolicyWorld], *, read: Read, chosen_by: Read = final_of) -> Estimate:
    """Root of chi-squared minus KL, each with its best coefficient."""
    one, other = (at_best(worlds, names, read=read, chosen_by=chosen_by) for names in (CHI, KL))
    return over_known((one - other).tolist())


def correlation(world: PolicyWorld) -> float:
    """Of proxy and gold over the start's responses, those of all prompts together, as the theorem has it."""
    looks = world.looks[FREE]
    return float(np.corrcoef(looks.proxy[0].ravel(), looks.gold[0].ravel())[0, 1])


def theorem_coefficient(world: PolicyWorld) -> float:
    """`sigma sqrt(1 - r^2)` of theorem 5.1, in the proxy's unit."""
    return float(world.looks[FREE].proxy[0].std() * np.sqrt(1 - correlation(world) ** 2))


def _claim(
    statement: str, effect: Estimate, *, where: str = "section on RLHF", ran: str, claimed: Literal[1, -1] = 1
) -> Claim:
    return directed_claim(statement, effect, source=f"{PAPER}, {where}", ran=ran, claimed=claimed)


def _best_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    r = over_known([correlation(world) for world in worlds])
    ran = "sqrt-chi2 minus KL, each with the coefficient whose last look is better in the other worlds"
    return [
        _claim(
            "A correlated proxy is hacked without regularisation.",
            over_known([final_of(world, FREE) for world in worlds]),
            where="definition of reward hacking",
            ran=f"proxies with r = {with_interval(r)}, gold at the last look, above the start's",
            claimed=-1,
        ),
        _claim(
            "Chi-squared gives more true reward than KL after training.",
            difference_at_best(worlds, read=final_of),
            ran=f"{ran}; gold at the last look",
        ),
        _claim(
            "Chi-squared gives more true reward than KL at its best.",
            difference_at_best(worlds, read=highest, chosen_by=highest),
            ran="sqrt-chi2 minus KL, each with the coefficient whose best look is better in the other "
            "worlds; gold at the best look, chosen on half of the prompts and measured on the others",
        ),
        _claim(
            "Chi-squared keeps more of what was gained.",
            difference_at_best(worlds, read=fall_of),
            ran=f"{ran}; gold lost from the best look to the last",
            claimed=-1,
        ),
    ]


def _equal_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    claims = []
    for one, other, how in ((CHI[0], KL[0], "weaker"), (CHI[1], KL[1], "stronger")):
        kls = shared_kls(worlds, (one, other))
        claims.append(
            _claim(
                f"Chi-squared gives more true reward than KL at equal KL, {how} coefficients.",
                paired_at(worlds, one, other, kls=kls),
                where="section on RLHF; there after training",
                ran=f"{one} minus {other}, {named_kls(kls)}",
            )
        )
    return claims


def _released_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    claims = [
        _claim(
            "The released chi-squared term gives more true reward than the released KL term.",
            paired(worlds, RELEASED_CHI, RELEASED_KL, read=final_of),
            where="released code",
            ran=f"{RELEASED_CHI} minus {RELEASED_KL}, gold at the last look",
        )
    ]
    for released, exact in ((RELEASED_KL, KL[1]), (RELEASED_CHI, CHI[1])):
        read = partial(_kl_at_end, among=(released, exact))
        claims.append(
            _claim(
                f"The released term ({released}) holds the policy less than the divergence it is named after.",
                paired(worlds, released, exact, read=read),
                where="released code; no claim of the paper but of the gradients' algebra",
                ran="same coefficient, KL to the start in nats at the last step at which both are looked at",
            )
        )
    return claims


def _kl_at_end(world: PolicyWorld, arm: str, *, among: Sequence[str]) -> float:
    return at_step(world, arm, common_step(world, among), what="kl")


def _settings(worlds: Sequence[PolicyWorld], scale: Scale) -> dict[str, str]:
    theory = over_known([theorem_coefficient(world) for world in worlds])
    how = optimization_settings(scale, plain(scale, scale.seeds[0]).how)
    return {
        "arms": f"RLOO with a term of whole responses in its loss, {len(ARMS)} runs a world; no KL in the "
        "reward (the paper: PPO, where the released code has it as well)",
        "coefficients": "in the proxy's unit, two for each penalty; the theorem's, sigma sqrt(1 - r^2), is "
        f"{with_interval(theory)}",
        **how,
    }


def _sections(worlds: Sequence[PolicyWorld]) -> list[tuple[str, str]]:
    rows: list[tuple[Cell, ...]] = []
    for arm in ARMS:
        ends = [float(drift(world.looks[arm])[-1]) for world in worlds]
        gold = [[read(world, arm) for world in worlds] for read in (highest, final_of, fall_of)]
        rows.append((arm, *map(over_worlds, (*gold, ends))))
    header = ("term", "best look", "last look", "fall", "KL at the last look")
    return [
        ("Gold and proxy against the distance from the start", f"![gold and proxy against distance]({FIGURE})"),
        ("Gold where a KL is first reached", kl_table(worlds, ARMS)),
        (
            "Best and last look",
            "The best look is chosen on half of the prompts and measured on the others.\n\n"
            + markdown_table(header, rows),
        ),
    ]
