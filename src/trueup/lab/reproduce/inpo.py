"""INPO in games whose preferences run in circles, where no reward says who wins.

**Source** Zhang et al. (2025), Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret
Learning, arXiv 2407.00617.
"""

from tqdm import tqdm

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.inpo_claims import claims_of, figures_of, gap_beyond, sections_of
from trueup.lab.reproduce.inpo_games import (
    BETAS,
    GAMES_PER_SEED,
    ORACLE,
    REWARD,
    SPELLERS_PER_SEED,
    TAU,
    InpoRuns,
    Part,
    run_inpo,
)
from trueup.lab.reproduce.scale import Scale
from trueup.report.evidence import Evidence
from trueup.report.tables import with_interval

_LEAD = (
    "Preferences need not follow a reward: A may be preferred to B, B to C and C to A. The paper takes the preference "
    "oracle as a game of two players, both held to a reference by a KL, and learns its Nash policy by a squared loss "
    "on pairs of the policy's own responses, round by round. Here the games are small enough to compute the distance "
    "from the Nash policy, the duality gap, exactly: tables of eight responses whose preferences have no order at all, "
    "and sequences of four letters of three kinds that beat one another in a circle at 0.9 to 0.1, written by small "
    "networks. All methods learn from pairs of their own responses with the objectives of this library, as many a "
    "round, and begin at the reference. Iterated DPO is held to the reference too; it learns from the oracle's "
    "choices, or from those of a Bradley-Terry reward that was fitted to the oracle's choices among the reference's "
    "responses."
)


def inpo(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Play the games and write down what became of the paper's claims."""
    with tqdm(total=1, desc="games", disable=not progress, leave=False) as bar:
        runs = run_inpo(scale)
        bar.update()
    return evidence_of(runs, scale=scale, command=command)


def evidence_of(runs: InpoRuns, *, scale: Scale, command: str) -> Evidence:
    """The page, from what was played."""
    figures = figures_of(runs)
    gaps = [
        f"{part.name}: {with_interval(over_worlds(gap_beyond(part, arm).tolist()))} to {name}"
        for part in (runs.circular, runs.sequences)
        for arm, name in ((ORACLE, "DPO on the oracle's choices"), (REWARD, "DPO on a fitted reward"))
    ]
    return Evidence(
        name="inpo",
        title="Does INPO find the Nash policy where preferences run in circles?",
        lead=_LEAD,
        finding=f"how much smaller the last duality gap of INPO is, {', '.join(gaps)}",
        claims=claims_of(runs),
        command=command,
        seeds=scale.seeds,
        settings=_settings(runs),
        sections=sections_of(runs, figures),
        figures=figures,
    )


def _settings(runs: InpoRuns) -> dict[str, str]:
    return {
        "tables": f"{GAMES_PER_SEED} games a seed, 8 responses; the log-odds of every pair and the reference's logits "
        "are drawn independently (standard deviations 2 and 1)",
        "sequences": f"{SPELLERS_PER_SEED} policies a seed, 4 letters of an alphabet of 4; networks with one hidden "
        "layer of 24 units that learned 2,000 sequences of their seed's text",
        "learning in tables": _learning(runs.circular),
        "learning in sequences": _learning(runs.sequences),
        "KL": f"tau {TAU:g} in the game and in the duality gap, also of methods that know nothing of tau",
        "DPO": f"beta {', '.join(f'{beta:g}' for beta in BETAS)}",
    }


def _learning(part: Part) -> str:
    how = part.rounds
    return (
        f"{how.rounds} rounds of {how.pairs:,} pairs, {how.descent.steps} steps of Adam "
        f"{how.descent.learning_rate:g} a round; INPO with eta {part.eta:g}"
    )
