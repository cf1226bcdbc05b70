"""What the paper on scaling laws claims of RL, one by one, against optimised policies.

**Source** Gao, Schulman, Hilton (2023), Scaling Laws for Reward Model Overoptimization, arXiv 2210.10760.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from trueup.divergences.best_of_n import nominal_kl
from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.gathering import RESAMPLING, Arm
from trueup.lab.reproduce.policy_arms import (
    PolicyWorld,
    gold_gain,
    judge_equal,
    kl_path,
    over_known,
    paired_at,
    peak_of,
    reach,
    shared_kls,
)
from trueup.lab.reproduce.policy_pages import RunCurves, named_kls, proxy_gain
from trueup.lab.reproduce.policy_plans import FREE
from trueup.lab.reproduce.scale import World
from trueup.measure.law_forms import Basis
from trueup.measure.laws import LawFit, against_rival, fit, trend
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, Verdict, judge
from trueup.report.tables import with_interval

PAPER = "Gao et al. 2023"
MARGIN = 0.1
"""Differences of gold up to this, in standard deviations, count as none."""

_EXPONENT_MARGIN, _ALPHA_MARGIN = 0.5, 0.25
_EARLY, _LOW_KL = 1.0, 0.1
_SIZES = (4, 16, 64)


def rise_and_fall(worlds: Sequence[PolicyWorld], found: LawFit) -> list[Claim]:
    """Gold rises, and falls while the proxy goes on rising."""
    early = min(_EARLY, *(reach(world.looks[FREE]) for world in worlds))
    gain = over_known([gold_gain(world, FREE, early) for world in worlds])
    end = min(reach(world.looks[FREE]) for world in worlds)
    best = min(found.observed.d.value**2, end)
    proxy = over_known([proxy_gain(world, FREE, end) - proxy_gain(world, FREE, best) for world in worlds])
    ran = f"RLOO without a penalty, {len(worlds)} worlds, as far as all of them get: KL {end:.3g}"
    return [
        Claim(
            "Gold rises at first as RL optimises the proxy.",
            f"{PAPER}, figure 1",
            ran,
            f"gold at KL {early:.2g}: {with_interval(gain)}",
            judge(gain, claimed=1),
        ),
        Claim(
            "Beyond a peak gold falls while the proxy goes on rising.",
            f"{PAPER}, figure 1",
            ran,
            f"fall from the peak, chosen on other worlds, to the end: {with_interval(found.observed.fall)}; verdict on "
            f"the curve: {found.verdict}; the proxy gains {with_interval(proxy)} of its standard deviations from KL "
            f"{best:.2g} on",
            _both(judge(found.observed.fall, claimed=1), judge(proxy, claimed=1)),
        ),
    ]


def _both(*verdicts: Verdict) -> Verdict:
    """A claim of several parts holds where all do, and is contradicted where one is."""
    if "contradicted" in verdicts:
        return "contradicted"
    return "reproduced" if set(verdicts) == {"reproduced"} else "not at this scale"


def form_claims(curves: RunCurves) -> list[Claim]:
    """The RL form against the best-of-n form and against the one that the paper rejects."""
    rivals: tuple[tuple[Basis, str], ...] = (
        ("best_of_n", "best-of-n's d (alpha - beta d)"),
        ("log1p", "d (alpha - beta log(1 + d))"),
    )
    return [_form_claim(curves, rival, words, ahead=ahead) for rival, words in rivals for ahead in (False, True)]


def _form_claim(curves: RunCurves, rival: Basis, words: str, *, ahead: bool) -> Claim:
    end = float(curves.d[-1])
    found = against_rival(
        curves.d,
        curves.gold,
        form="rl",
        rival=rival,
        resampling=RESAMPLING,
        groups=curves.world,
        fit_up_to=end / 2 if ahead else None,
    )
    verb = "predicts gold beyond the range it was fitted on" if ahead else "fits gold"
    where = f"fitted up to d = {end / 2:.2f}, predicted from there to {end:.2f}" if ahead else f"fitted up to {end:.2f}"
    return Claim(
        f"Under RL d (alpha - beta log d) {verb} better than {words}.",
        f"{PAPER}, section 3.1",
        f"RLOO without a penalty, mean curve of {len(np.unique(curves.world))} worlds, {where}",
        f"rms {with_interval(found.rms, digits=3)} against {with_interval(found.rival_rms, digits=3)}; gain "
        f"{with_interval(found.gain, digits=3)}",
        judge(found.gain, claimed=1),
    )


def size_claims(curves: Mapping[str, RunCurves], sizes: Mapping[str, int]) -> list[Claim]:
    """Beta falls with the proxy's size, alpha does not depend on it."""
    parameters = np.asarray([sizes[name] for name in curves], float)
    laws = np.stack([coefficients(one) for one in curves.values()], axis=1)
    end = float(next(iter(curves.values())).d[-1])
    ran = (
        f"{len(curves)} sizes, {int(parameters.min()):,} to {int(parameters.max()):,} parameters, the same "
        f"comparisons; d up to {end:.2f}, which all runs reach"
    )
    alpha, beta = (trend(parameters, laws[:, :, k], resampling=RESAMPLING) for k in (0, 1))
    mean = float(laws[:, :, 0].mean())
    slope = "slope for ten times the size"
    return [
        Claim(
            "beta falls with the logarithm of the proxy's parameters.",
            f"{PAPER}, figure 3",
            ran,
            f"{slope}: {with_interval(beta.slope, digits=3)}; rank correlation {with_interval(beta.rank_correlation)}",
            judge(beta.slope, claimed=-1),
        ),
        Claim(
            "alpha does not depend on the proxy's parameters.",
            f"{PAPER}, figure 3 (held constant there)",
            ran,
            f"{slope}: {with_interval(alpha.slope, digits=3)} on a mean of {mean:.3f}",
            judge_equal(alpha.slope, margin=_ALPHA_MARGIN * abs(mean)),
        ),
    ]


def coefficients(curves: RunCurves) -> np.ndarray:
    """Alpha and beta of each world's own curve."""
    found = []
    for curve in curves.by_world():
        law = fit(curves.d, curve - curve[0], form="rl")
        found.append((law.alpha, law.beta))
    return np.asarray(found)


def penalty_name(coefficient: float) -> str:
    """Arm of a KL penalty."""
    return f"KL penalty {coefficient:g}"


def penalty_claims(worlds: Sequence[PolicyWorld], coefficient: float) -> list[Claim]:
    """A KL penalty ends the run at a smaller KL, and at equal KL only the proxy differs."""
    arm = penalty_name(coefficient)
    kls = shared_kls(worlds, [FREE, arm])
    at = f"{arm} against none, {named_kls(kls)}"
    gold = paired_at(worlds, arm, FREE, kls=kls)
    proxy = paired_at(worlds, arm, FREE, kls=kls, read=proxy_gain)
    gap = paired_at(worlds, arm, FREE, kls=kls, read=_gap)
    roots = over_known([distance_at_equal_step(world.looks[arm], world.looks[FREE]) for world in worlds])
    return [
        Claim(
            f"A KL penalty of {coefficient:g} does not change gold at equal KL.",
            f"{PAPER}, effect of a KL penalty",
            at,
            f"{with_interval(gold)}; none is less than {MARGIN:g}",
            judge_equal(gold, margin=MARGIN),
        ),
        Claim(
            f"A KL penalty of {coefficient:g} stops the growth of KL earlier.",
            f"{PAPER}, effect of a KL penalty",
            f"{arm} against none, d at the last step of the shorter run of each world",
            f"{with_interval(roots)} sqrt(nats)",
            judge(roots, claimed=-1),
        ),
        Claim(
            f"A KL penalty of {coefficient:g} widens the gap between proxy and gold at equal KL.",
            f"{PAPER}, effect of a KL penalty",
            at,
            f"proxy {with_interval(proxy)} of its standard deviations; proxy less gold {with_interval(gap)}",
            judge(gap, claimed=1),
        ),
    ]


def _gap(world: PolicyWorld, arm: str, kl: float) -> float:
    return proxy_gain(world, arm, kl) - gold_gain(world, arm, kl)


def distance_at_equal_step(one: Looks, other: Looks) -> float:
    """D of one run minus another's at the last step that both were looked at, sqrt(nats)."""
    step = max(set(one.step.tolist()) & set(other.step.tolist()))
    first, second = (float(np.sqrt(np.maximum(looks.kl[looks.step == step].mean(), 0.0))) for looks in (one, other))
    return first - second


def growth_claim(worlds: Sequence[PolicyWorld]) -> Claim:
    """KL grows with the square of the steps."""
    power = over_known([growth_power(world.looks[FREE]) for world in worlds])
    away = Estimate(power.value - 2, power.low - 2, power.high - 2, power.n)
    return Claim(
        "Without a penalty KL grows about quadratically with steps.",
        f"{PAPER}, RL against best-of-n",
        f"RLOO without a penalty, {power.n} worlds, looks beyond {_LOW_KL:g} nats",
        f"power of the step count: {with_interval(power)}; about quadratic is within {_EXPONENT_MARGIN:g} of 2",
        judge_equal(away, margin=_EXPONENT_MARGIN),
    )


def growth_power(looks: Looks) -> float:
    """Least-squares slope of log KL against log steps; NaN with fewer than two looks beyond 0.1 nats."""
    kl = looks.kl.mean(axis=(1, 2))
    kept = (looks.step > 0) & (kl > _LOW_KL)
    if np.count_nonzero(kept) < 2:
        return float("nan")
    return float(np.polyfit(np.log(looks.step[kept]), np.log(kl[kept]), 1)[0])


def slower_than_best_of_n(worlds: Sequence[PolicyWorld], scored: Sequence[World], chosen: Arm) -> list[Claim]:
    """RL needs more KL than best-of-n, for its peak and for the same proxy."""
    rl = [peak_of(world, FREE)[1] ** 0.5 for world in worlds]
    best_of_n = chosen.d[np.argmax(chosen.by_world(), axis=1)].tolist()
    peaks = over_known([a - b for a, b in zip(rl, best_of_n, strict=True)])
    sizes = [n for n in _SIZES if n in set(chosen.n.tolist())]
    pairs = enumerate(zip(worlds, scored, strict=True))
    extra = over_known([_extra_distance(world, one, chosen, sizes=sizes, place=place) for place, (world, one) in pairs])
    both = f"the same proxies in {len(worlds)} worlds"
    return [
        Claim(
            "RL reaches its gold peak at a larger KL than best-of-n.",
            f"{PAPER}, RL against best-of-n",
            f"{both}; d of the highest point of each world's curve, best-of-n up to n = {chosen.n[-1]}",
            f"RL {np.mean(rl):.2f}, best-of-n {np.mean(best_of_n):.2f} sqrt(nats): {with_interval(peaks)}",
            judge(peaks, claimed=1),
        ),
        Claim(
            "RL spends more KL than best-of-n for the same gain of the proxy.",
            f"{PAPER}, RL against best-of-n",
            f"{both}; the proxy's gain of best-of-n at n = {', '.join(map(str, sizes))}, in the proxy's unit; a run "
            "that never gets there counts with the largest d it reached",
            f"d of RL less that of best-of-n: {with_interval(extra)} sqrt(nats), {extra.n} worlds",
            judge(extra, claimed=1),
        ),
    ]


def _extra_distance(world: PolicyWorld, scored: World, chosen: Arm, *, sizes: Sequence[int], place: int) -> float:
    unit = float(scored.proxies[FREE].score.std(axis=1).mean())
    gains = chosen.proxy[chosen.world == place].mean(axis=0) * unit
    looks = world.looks[FREE]
    return float(np.mean([_extra(looks, float(gains[np.searchsorted(chosen.n, n)]), n=n) for n in sizes]))


def _extra(looks: Looks, gain: float, *, n: int) -> float:
    """D of a run less that of best-of-n at the same gain; NaN where the run ends before it could tell."""
    needed, spent = distance_of_gain(looks, gain), float(np.sqrt(nominal_kl(np.asarray([n]))[0]))
    if np.isfinite(needed):
        return needed - spent
    # The run would have to go further still, so that this is the least it can be.
    least = reach(looks) ** 0.5 - spent
    return least if least > 0 else float("nan")


def distance_of_gain(looks: Looks, gain: float) -> float:
    """D at which what is optimised is first so far above the start's, sqrt(nats); NaN where it never is.

    Args:
        looks: The run.
        gain: In the proxy's own unit.
    """
    proxy, d = looks.proxy.mean(axis=(1, 2)) - looks.proxy[0].mean(), np.sqrt(kl_path(looks))
    reached = np.flatnonzero(proxy >= gain)
    if not len(reached):
        return float("nan")
    after = int(reached[0])
    if after == 0:
        return float(d[0])
    share = (gain - proxy[after - 1]) / (proxy[after] - proxy[after - 1])
    return float((1 - share) * d[after - 1] + share * d[after])
