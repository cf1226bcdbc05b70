"""SALSA in the small language world: the average of two fine-tuned policies as what the KL is measured against.

**Source** Chegini et al. (2024), SALSA: Soup-based Alignment Learning for Stronger Adaptation in RLHF, arXiv
2411.01798.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from trueup.files import cache_folder
from trueup.lab.gold_proxy import Setup
from trueup.lab.look_files import kept_looks
from trueup.lab.merged_looks import look_at_each
from trueup.lab.optimizing import Looks
from trueup.lab.policies import ContinuedPlan, PolicyPlan, build_policy
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.reproduce.fronts import directed_claim, drift, front_table, kl_table, paired, unit_of
from trueup.lab.reproduce.policy_arms import PolicyWorld, gold_gain, over_known, paired_at, run_policies, shared_kls
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, named_kls, optimization_settings, proxy_gain
from trueup.lab.reproduce.policy_plans import plain
from trueup.lab.reproduce.scale import Scale
from trueup.merging.merge import merge_checkpoints
from trueup.merging.shares import same_shares
from trueup.report.evidence import Claim, Evidence
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

    def above(what: str) -> tuple[float, ...]:
        values = getattr(looks, what).astype(float).mean(axis=(1, 2))
        values = (values - (values[0] + values[-1]) / 2) / unit_of(world, FIRST, what)
        return tuple(float(value) for value in values)

    return Profile(gold=above("gold"), proxy=above("proxy"), kl=tuple(float(kl) for kl in drift(looks)))


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
        figures={"salsa-kl.svg": gold_and_proxy_figure(worlds, (FIRST, SOUP, WEAKER, OTHER))},
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
        "arms": f"4 runs of RLOO a world; KL coefficient {COEFFICIENT:g}, weaker {WEAK:g}",
        "proxy": "one, on comparisons of the first policy's samples",
        **optimization_settings(scale, plain(scale, scale.seeds[0]).how),
    }


def _profile_claims(profiles: Sequence[Profile]) -> list[Claim]:
    middle = SHARES.index(0.5)
    return [
        directed_claim(
            f"The soup itself has more {name} than its two members on average.",
            over_known([getattr(one, what)[middle] for one in profiles]),
            source=f"{PAPER}, abstract",
            ran=f"equal parts, before any optimisation, {what}",
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


def _coefficient_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    return [
        directed_claim(
            statement,
            paired(worlds, SOUP, FIRST, read=partial(last_of, what=what)),
            source=f"{PAPER}, abstract",
            ran=f"soup minus first policy, both at {COEFFICIENT:g}, after the last step that all arms reach: {name}",
        )
        for statement, what, name in (
            ("At equal coefficients the soup allows a larger KL.", "kl", "KL to the first policy, nats"),
            ("At equal coefficients the optimised reward is higher.", "proxy", "proxy"),
            ("At equal coefficients the result is better.", "gold", "gold"),
        )
    ]


def _kl_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    """What the paper does not control for."""
    claims = []
    for other, words, what, read in (
        (FIRST, "gold than the usual reference", "gold", gold_gain),
        (FIRST, "of the optimised reward than the usual reference", "proxy", proxy_gain),
        (WEAKER, "gold than the usual reference with a weaker penalty", "gold", gold_gain),
        (OTHER, "gold than a soup with the model before fine-tuning", "gold", gold_gain),
    ):
        kls = shared_kls(worlds, (SOUP, other))
        claims.append(
            directed_claim(
                f"The soup gives more {words} at equal KL.",
                paired_at(worlds, SOUP, other, kls=kls, read=read),
                source=f"{PAPER}, abstract (there not at equal KL)",
                ran=f"{SOUP} minus {other}: {what}, {named_kls(kls)}",
            )
        )
    return claims


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
        ("Gold where a KL is first reached", kl_table(worlds, every)),
        ("The front: best gold within a KL", front_table(worlds, every, what="gold")),
        ("Soups of the two policies themselves", "Above the mean of both.\n\n" + markdown_table(header, rows)),
    ]
