"""A-LoL on noisy data, in bandits with exact rewards and in the language world.

**Source** Baheti et al. (ICLR 2024), Leftover Lunch: Advantage-based Offline Reinforcement Learning for Language
Models, arXiv 2305.14718.
"""

from collections.abc import Sequence

import numpy as np

from trueup.lab.reproduce import a_lol_bandits as bandit
from trueup.lab.reproduce import a_lol_language as language
from trueup.lab.reproduce.a_lol_bandits import NOISES, BanditRuns, run_bandits
from trueup.lab.reproduce.a_lol_claims import bandit_claims, language_claims, sections_of
from trueup.lab.reproduce.a_lol_language import ALolWorld, run_languages
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.policy_arms import over_known
from trueup.lab.reproduce.scale import Scale
from trueup.report.dots import Scale as Axis
from trueup.report.dots import forest
from trueup.report.evidence import Evidence
from trueup.report.tables import with_interval

_LEAD = (
    "The paper learns from given responses with a reward each, without sampling: it subtracts what the reference would "
    "have earned on the prompt, leaves out what is not better, draws the rest in proportion to how much better it is, "
    "and weights its likelihood by that advantage and by a clipped ratio of policy to reference. Compared are its "
    "variants (no ratio, a KL instead, a ratio for each token), likelihood, cloning weighted by rewards, R-LoL, which "
    "has rewards in the place of advantages, and DPO. In bandits all means are exact, and data are mixed with uniform "
    "choices. In the language world half of all responses in the data answer another prompt; the reference is "
    "fine-tuned on these data, its value is predicted from the prompt by a head that learned from its own responses, "
    "and the reward is the sigmoid of gold."
)


def a_lol(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run both parts and write down what became of the paper's claims."""
    return evidence_of(run_bandits(scale), run_languages(scale, progress=progress), scale=scale, command=command)


def evidence_of(runs: BanditRuns, worlds: Sequence[ALolWorld], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    gap = np.mean([runs.difference(bandit.A_LOL, bandit.R_LOL, noise) for noise in NOISES], axis=0)
    spoken = over_known([world.arms[language.A_LOL].gold - world.arms[language.LONGER].gold for world in worlds])
    return Evidence(
        name="a-lol",
        title="Does A-LoL learn more from noisy data than cloning, R-LoL and DPO?",
        lead=_LEAD,
        finding=f"A-LoL minus R-LoL in bandits: mean reward {with_interval(over_worlds(gap.tolist()), digits=3)}; "
        f"A-LoL minus fine-tuning in the language world: gold {with_interval(spoken)}",
        claims=[*bandit_claims(runs), *language_claims(worlds)],
        command=command,
        seeds=scale.seeds,
        settings=_settings(runs, scale),
        sections=sections_of(runs, worlds),
        figures={"a-lol-bandits.svg": _bandit_figure(runs), "a-lol-language.svg": _language_figure(worlds)},
    )


def _settings(runs: BanditRuns, scale: Scale) -> dict[str, str]:
    plan = runs.plan
    return {
        "bandits": f"{bandit.BANDITS_PER_SEED} a seed: {plan.contexts} contexts, {plan.first * plan.second} responses "
        f"of two tokens, rewards uniform on [0, 1], {plan.samples:,} responses drawn from softmax({plan.sharpness:g} "
        "r), of which the noise replaces a share by uniform ones",
        "learning in bandits": f"{plan.descent.steps:,} steps of Adam {plan.descent.learning_rate:g} with {plan.batch} "
        "responses, the likelihood's policy first, all others from there; its mean reward in each context, exact, is "
        "the value",
        "priorities": "A-LoL's variants draw in proportion to the advantage, weighted cloning and R-LoL to the reward",
        "language world": f"{scale.pairs[-2]:,} prompts with two responses, each replaced by one to another prompt "
        f"with probability {language.NOISE:g}; DPO learns gold's choice between the two, beta 0.1",
        "trainings": f"{scale.policy_steps} steps of AdamW 3e-4 with 32 responses (DPO: pairs), the reference from the "
        "scale policy, all others from the reference",
        "clip and beta": "ratios from 0.1 to 1.9; KL variant 0.1",
        "equal KL": "between the reference and the trained policy on the line of their weights",
    }


def _bandit_figure(runs: BanditRuns) -> str:
    rows = {f"noise {noise:g}": {name: over_worlds(values.tolist()) for name, values in found.items()}
            for noise, found in runs.reward.items()}  # fmt: skip
    return forest(rows, Axis(label="mean reward", digits=3))


def _language_figure(worlds: Sequence[ALolWorld]) -> str:
    gold = {name: over_worlds([world.arms[name].gold for world in worlds]) for name in worlds[0].arms}
    return forest({"gold": gold}, Axis(label="gold above the reference, standard deviations", reference=0.0))
