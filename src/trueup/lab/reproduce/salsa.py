"""SALSA in the small language world: the average of two fine-tuned policies as what the KL is measured against.

**Source** Chegini et al. (2024), SALSA: Soup-based Alignment Learning for Stronger Adaptation in RLHF, arXiv
2411.01798.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from trueup.anchors.merge import merge_checkpoints
from trueup.anchors.merge_shares import same_shares
from trueup.files import cache_folder
from trueup.lab.gold_proxy import Setup
from trueup.lab.look_files import kept_looks
from trueup.lab.merged_looks import look_at_each
from trueup.lab.optimizing import Looks
from trueup.lab.policies import ContinuedPlan, PolicyPlan, build_policy
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.reproduce.fronts import drift, front_table, gain_at, gold_table, kl_figure, unit_of
from trueup.lab.reproduce.policy_arms import PolicyWorld, over_known, paired_at, run_policies, shared_kls
from trueup.lab.reproduce.policy_plans import plain
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Chegini et al. 2024"
FIRST, SOUP = "first policy", "soup of two"
WEAKER, OTHER = "first policy, weaker penalty", "soup with pretrained"
COEFFICIENT, WEAK = 0.2, 0.1
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the first policy in soups that are looked at on their own."""

_OTHER_SEED = 500
_SAMPLES = 64
_VERSION = 1


def fine_tuned(scale: Scale) -> Scale:
    """The same worlds with policies that were fine-tuned further, each on the same text in an order of its own."""
    base = scale.setup.policy
    policy = ContinuedPlan(
        base=base,
        prompts=max(base.prompts // 4, 1),
        responses=base.responses,
        families=base.families,
        writers=base.writers,
        shape=base.shape,
        fit=replace(base.fit, learning_rate=base.fit.learning_rate / 2, epochs=1.0),
    )
    return replace(scale, setup=replace(scale.setup, policy=policy, samples=min(scale.setup.samples, _SAMPLES)))


def members(scale: Scale, seed: int) -> tuple[PolicyPlan, PolicyPlan, PolicyPlan]:
    """The first policy, which training starts from, the second, and what both were fine-tuned from."""
    first = scale.plan(seed).policy
    if not isinstance(first, ContinuedPlan):
        raise TypeError("the worlds' policies must be fine-tuned ones")
    return first, replace(first, seed=seed + _OTHER_SEED), first.start


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """One start and one proxy; only what the KL is measured against, and how much it counts, differs."""
    first, second, pretrained = members(scale, seed)
    usual = plain(scale, seed, kl_coefficient=COEFFICIENT)
    return {
        FIRST: usual,
        SOUP: replace(usual, reference=(first, second)),
        WEAKER: plain(scale, seed, kl_coefficient=WEAK),
        OTHER: replace(usual, reference=(first, pretrained)),
    }


@dataclass(frozen=True)
class Profile:
    """Soups of the two policies themselves, before any optimisation, one for each of `SHARES`.

    Args:
        gold: Mean gold, in standard deviations of the first policy's responses, above the mean of both policies.
        proxy: The same of the proxy.
        kl: KL of the soup to the first policy, nats.
    """

    gold: tuple[float, ...]
    proxy: tuple[float, ...]
    kl: tuple[float, ...]


def profile_of(world: PolicyWorld, looks: Looks) -> Profile:
    """What the looks at soups show."""
    found = []
    for what in ("gold", "proxy"):
        values = getattr(looks, what).astype(float).mean(axis=(1, 2))
        values = (values - (values[0] + values[-1]) / 2) / unit_of(world, FIRST, what)
        found.append(tuple(float(value) for value in values))
    return Profile(*found, tuple(float(kl) for kl in drift(looks)))


def look_at_soups(scale: Scale, world: PolicyWorld) -> Looks:
    """Look at soups of a world's two policies, or read what was seen before."""
    home = scale.folder or cache_folder() / "lab"
    run, (first, second, _) = arms(scale, world.seed)[FIRST], members(scale, world.seed)
    parts = [_VERSION, "soups", run.key(world.setup), first.key, second.key, SHARES]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    def make() -> Looks:
        places = [build_policy(plan, folder=home / "policies") for plan in (first, second)]
        return _look(world.setup, run, places, folder=scale.folder)

    return kept_looks(home / "merged" / f"{name}.npz", make)


def _look(setup: Setup, run: PolicyRun, places: Sequence[Path], *, folder: Path | None) -> Looks:
    with tempfile.TemporaryDirectory() as aside:
        soups = [Path(aside) / f"{share:g}" for share in SHARES]
        for share, target in zip(SHARES, soups, strict=True):
            merge_checkpoints(places, target, shares=same_shares((share, 1 - share)))
        return look_at_each(setup, run, soups, folder=folder)


def salsa(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    tuned = fine_tuned(scale)
    worlds = run_policies(tuned, arms, progress=progress)
    profiles = [profile_of(world, look_at_soups(tuned, world)) for world in worlds]
    return evidence_of(worlds, profiles, scale=tuned, command=command)


def evidence_of(worlds: Sequence[PolicyWorld], profiles: Sequence[Profile], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run."""
    kls = shared_kls(worlds, (FIRST, SOUP))
    equal = paired_at(worlds, SOUP, FIRST, kls=kls)
    return Evidence(
        name="salsa",
        title="Is the average of two policies a better reference than one of them, in the small language world?",
        lead=(
            "Two policies are fine-tuned from one language model of the world, on the same text in two orders. RLOO "
            "starts from the first and optimises one proxy of gold; the KL of the reward is measured against the "
            "first policy, as usual, or against the average of the weights of both (the soup). All KLs on this page "
            "are to the first policy, whatever training measured.\n\n"
            "The paper compares at equal coefficients. A soup is another distance to go, so two controls decide: the "
            "usual reference with a weaker penalty, and a soup of the first policy with the language model before "
            "fine-tuning. The paper uses PPO; here it is RLOO, as on the other pages."
        ),
        finding=f"gold at equal KL to the first policy, soup minus first policy: {with_interval(equal)}",
        claims=[*_profile_claims(profiles), *_coefficient_claims(worlds), *_kl_claims(worlds)],
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(scale, profiles),
        sections=_sections(worlds, profiles),
        figures={"salsa-kl.svg": kl_figure(worlds, (FIRST, SOUP, WEAKER, OTHER))},
    )


def _settings(scale: Scale, profiles: Sequence[Profile]) -> Mapping[str, str]:
    plan = scale.setup.policy
    apart = over_known([one.kl[SHARES.index(0.0)] for one in profiles])
    soup = over_known([one.kl[SHARES.index(0.5)] for one in profiles])
    return {
        "fine-tuning": f"{plan.prompts:,} prompts x {plan.responses} answers, {plan.fit.epochs:g} epoch, AdamW "
        f"{plan.fit.learning_rate:g}, same text, two orders",
        "how far apart": f"KL to the first policy, nats: second policy {with_interval(apart)}, soup "
        f"{with_interval(soup)}",
        "runs of a world": f"4, of up to {scale.policy_steps} steps of 16 prompts x 4 responses",
        "method": f"RLOO, AdamW at a constant 4e-4; KL coefficient {COEFFICIENT:g}, weaker {WEAK:g}; runs end beyond "
        "a KL of 40 nats",
        "proxy": f"{scale.pairs[-1]:,} comparisons of the first policy's samples",
        "units": "gold and proxy in standard deviations within prompts of the first policy's responses; intervals "
        "over worlds",
    }


def _claim(statement: str, where: str, ran: str, effect: Estimate, *, claimed: Literal[1, -1] = 1) -> Claim:
    shown = f"{with_interval(effect)}, {effect.n} worlds"
    return Claim(statement, f"{PAPER}, {where}", ran, shown, judge(effect, claimed=claimed))


def _profile_claims(profiles: Sequence[Profile]) -> list[Claim]:
    middle = SHARES.index(0.5)
    return [
        _claim(
            f"The soup itself has more {name} than its two members on average.",
            "landscape of rewards",
            f"equal parts, before any optimisation, {what}",
            over_known([getattr(one, what)[middle] for one in profiles]),
        )
        for what, name in (("proxy", "reward"), ("gold", "gold"))
    ]


def last_of(world: PolicyWorld, arm: str, *, what: str) -> float:
    """Gain in gold or proxy, or the KL in nats, at the last look that all arms reach."""
    step = min(int(looks.step[-1]) for looks in world.looks.values())
    looks = world.looks[arm]
    place = int(np.flatnonzero(looks.step == step)[0])
    if what == "kl":
        return float(drift(looks)[place])
    values = getattr(looks, what).astype(float)
    return float((values[place].mean() - values[0].mean()) / unit_of(world, arm, what))


Read = Callable[[PolicyWorld, str], float]


def _paired(worlds: Sequence[PolicyWorld], read: Read, one: str, other: str) -> Estimate:
    return over_known([read(world, one) - read(world, other) for world in worlds])


def _coefficient_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    ran = "soup minus first policy at equal coefficient and equal steps, the last that all arms reach: "
    return [
        _claim(statement, "main results", ran + name, _paired(worlds, partial(last_of, what=what), SOUP, FIRST))
        for statement, what, name in (
            ("At equal coefficients the soup allows a larger KL.", "kl", "KL to the first policy, nats"),
            ("At equal coefficients the optimised reward is higher.", "proxy", "proxy"),
            ("At equal coefficients the result is better.", "gold", "gold"),
        )
    ]


def _kl_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    claims = []
    for other, words in (
        (FIRST, "the usual reference"),
        (WEAKER, "the usual reference with a weaker penalty"),
        (OTHER, "a soup with the model before fine-tuning"),
    ):
        kls = shared_kls(worlds, (SOUP, other))
        named = ", ".join(f"{kl:.3g}" for kl in kls)
        claims.append(
            _claim(
                f"The soup gives more gold than {words} at equal KL.",
                "main results; not controlled for there",
                f"gold at a KL to the first policy of {named} nats, mean of these",
                paired_at(worlds, SOUP, other, kls=kls),
            )
        )
    kls = shared_kls(worlds, (SOUP, FIRST))
    claims.append(
        _claim(
            "The soup gives more of the optimised reward than the usual reference at equal KL.",
            "main results; not controlled for there",
            f"proxy at a KL to the first policy of {', '.join(f'{kl:.3g}' for kl in kls)} nats, mean of these",
            paired_at(worlds, SOUP, FIRST, kls=kls, read=partial(_gain, what="proxy")),
        )
    )
    return claims


def _gain(world: PolicyWorld, arm: str, kl: float, *, what: str) -> float:
    return gain_at(world, arm, kl, what=what)


def _sections(worlds: Sequence[PolicyWorld], profiles: Sequence[Profile]) -> list[tuple[str, str]]:
    every = (FIRST, SOUP, WEAKER, OTHER)
    rows: list[tuple[Cell, ...]] = [
        (
            f"{share:g}",
            *(over_known([getattr(one, what)[place] for one in profiles]) for what in ("gold", "proxy", "kl")),
        )
        for place, share in enumerate(SHARES)
    ]
    header = ("share of the first policy", "gold", "proxy", "KL to the first policy")
    return [
        ("Against distance to the first policy", "![gold and proxy against distance](salsa-kl.svg)"),
        ("Gold where a KL is first reached", gold_table(worlds, every)),
        ("The front: best gold within a KL", front_table(worlds, every, what="gold")),
        ("Soups of the two policies themselves", "Above the mean of both.\n\n" + markdown_table(header, rows)),
    ]
