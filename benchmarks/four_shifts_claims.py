"""The paper's claims, one by one, against what `bsr_four_shifts.py` measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from four_shifts_plan import HH_EPOCHS, METHODS, MINILM, Plan, Run
from four_shifts_stats import BASES, OUTSIDE, RESAMPLING, Measure, Results, method_run, trace_run, verdict

from trueup.measure.bootstrap import paired_difference
from trueup.measure.scored import Estimate

TIE = 0.02
STRENGTHS = ("BSR 0.001", "BSR 0.01", "BSR 0.1")
NAMES = {"decoder": "decoder", "minilm": "MiniLM"}


@dataclass(frozen=True)
class Finding:
    """One line of the verdict table."""

    claim: str
    model: str
    measured: str
    verdict: str
    setting: str = ""


@dataclass(frozen=True)
class Evidence:
    """Results with the plan they belong to."""

    results: Results
    plan: Plan

    def models(self) -> Iterator[tuple[str, Run, int]]:
        """Models that were run, with their base run and seeds."""
        for model, base in BASES.items():
            if self.plan.parts[model]:
                yield model, base, self.plan.seeds[model]

    def gain(self, model: str, name: str, measure: Measure) -> Estimate:
        """A method minus BT."""
        base = BASES[model]
        return self.results.gain(method_run(base, name), base, measure, self.plan.seeds[model])

    def growth(self, run: Run, metric: str, seeds: int, *, split: str = "train") -> Estimate:
        """Last epoch minus the untrained model."""
        before, after = (self.results.values(run, Measure(metric, (split,), when), seeds) for when in ("0", "last"))
        return paired_difference(before, after, resampling=RESAMPLING)


def signed(estimate: Estimate, digits: int = 3) -> str:
    """A difference with its interval."""
    if not np.isfinite(estimate.value):
        return "-"
    if not np.isfinite(estimate.low):
        return f"{estimate.value:+.{digits}f}".replace("-", "−")
    value, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def all_findings(evidence: Evidence) -> list[Finding]:
    """Every claim that was tested."""
    parts = (norm_growth, head_norm, narrower, tau_gain, in_domain_tie, other_losses, over_fitting, ranks, rm_bench)
    return [finding for part in parts for finding in part(evidence)]


def norm_growth(evidence: Evidence) -> Iterator[Finding]:
    claim = "BT training makes the hidden norm larger and more dispersed"
    places = {"": "vector that enters the head", "raw_": "before the final norm"}
    runs = {"decoder": (trace_run("BT"), "trace"), "minilm": (MINILM, "minilm")}
    for model, (run, part) in runs.items():
        if not evidence.plan.parts[part]:
            continue
        for prefix, place in places.items():
            mean, std = (
                evidence.growth(run, f"{prefix}norm_{what}", evidence.plan.seeds[part]) for what in ("mean", "std")
            )
            words = verdict(mean, claimed=1), verdict(std, claimed=1)
            word = words[0] if words[0] == words[1] else f"mean {words[0]}, spread {words[1]}"
            measured = f"mean {signed(mean, 2)}, std {signed(std, 2)} from the start to the end of training"
            yield Finding(f"{claim} ({place})", NAMES[model], measured, word)


def head_norm(evidence: Evidence) -> Iterator[Finding]:
    for model, run, part in (("decoder", trace_run("BT"), "trace"), ("minilm", MINILM, "minilm")):
        if evidence.plan.parts[part]:
            change = evidence.growth(run, "head_norm", evidence.plan.seeds[part])
            word = same(change, within=0.1)
            yield Finding("The head's norm stays near 1 (within 0.1)", NAMES[model], f"change {signed(change)}", word)


def narrower(evidence: Evidence) -> Iterator[Finding]:
    kinds = {
        "norm_std": "BSR narrows the norm of what enters the head",
        "raw_norm_std": "BSR narrows the norm before the final normalisation",
        "norm_shift": "Under BSR the norms of unseen data lie nearer to the training norms (shift in training std)",
    }
    for metric, claim in kinds.items():
        for model, _, _ in evidence.models():
            for name in STRENGTHS:
                gain = evidence.gain(model, name, Measure(metric))
                yield Finding(claim, NAMES[model], signed(gain), verdict(gain, claimed=-1), strength(name))


def strength(name: str) -> str:
    """The setting that a row `BSR 0.01` stands for."""
    return name.replace("BSR ", "λ = ")


def tau_gain(evidence: Evidence) -> Iterator[Finding]:
    for when, words in (("last", "after the last epoch"), ("best", "after the best validation epoch")):
        for model, _, _ in evidence.models():
            for name in STRENGTHS:
                cells = [evidence.gain(model, name, Measure("tau", (split,), when)) for split in OUTSIDE]
                mean = evidence.gain(model, name, Measure("tau", OUTSIDE, when))
                above = sum(cell.value > 0 for cell in cells)
                measured = f"{signed(mean)} on average, above BT on {above} of 3 splits"
                claim = f"BSR orders unseen data better than BT (tau), {words}"
                yield Finding(claim, NAMES[model], measured, verdict(mean, claimed=1), strength(name))


def in_domain_tie(evidence: Evidence) -> Iterator[Finding]:
    for model, _, _ in evidence.models():
        for name in STRENGTHS:
            gain = evidence.gain(model, name, Measure("accuracy", ("in_domain",)))
            claim = f"In-domain accuracy of BSR and BT is the same (within {TIE})"
            yield Finding(claim, NAMES[model], signed(gain), same(gain, within=TIE), strength(name))


def same(difference: Estimate, *, within: float) -> str:
    """What a difference says of a claim that there is none."""
    low, high = difference.low, difference.high
    if not np.isfinite(low):
        return "not measured"
    if max(abs(low), abs(high)) < within:
        return "reproduced"
    if low <= 0 <= high:
        return "not resolved"
    return "contradicted (higher)" if low > 0 else "contradicted (lower)"


def other_losses(evidence: Evidence) -> Iterator[Finding]:
    claims = {
        ("norm", "tau", -1): "Logit normalisation orders unseen data worse than BT",
        ("DR", "tau", -1): "DR orders unseen data worse than BT",
        ("DR", "norm_std", 1): "DR widens the norm of what enters the head",
        ("hinge", "tau", 1): "Hinge is sometimes above BT on unseen data",
    }
    for (name, metric, sign), claim in claims.items():
        for model, _, _ in evidence.models():
            gain = evidence.gain(model, name, Measure(metric))
            yield Finding(claim, NAMES[model], signed(gain), verdict(gain, claimed=sign))


def over_fitting(evidence: Evidence) -> Iterator[Finding]:
    """What happens to BT from its best validation epoch to its last."""
    wanted = {
        "train accuracy": (Measure("accuracy", ("train",)), "rises"),
        "in-domain accuracy": (Measure("accuracy", ("in_domain",)), "rises"),
        "tau on unseen data": (Measure("tau"), "stagnates or falls"),
    }
    for model, base, seeds in evidence.models():
        for what, (measure, expected) in wanted.items():
            ends = [evidence.results.values(base, replace(measure, when=when), seeds) for when in ("best", "last")]
            change = paired_difference(*ends, resampling=RESAMPLING)
            if expected == "rises":
                word = verdict(change, claimed=1)
            else:
                word = {"reproduced": "contradicted"}.get(verdict(change, claimed=1), "reproduced")
                word = word if np.isfinite(change.low) else "not measured"
            claim = f"Over-optimisation of BT past the best epoch: {what} {expected}"
            yield Finding(claim, NAMES[model], signed(change), word)


def ranks(evidence: Evidence) -> Iterator[Finding]:
    for model, _, _ in evidence.models():
        for name in STRENGTHS:
            gain = evidence.gain(model, name, Measure("rank_change"))
            claim = "The effective rank changes less from training to unseen data under BSR"
            yield Finding(claim, NAMES[model], signed(gain, 2), verdict(gain, claimed=-1), strength(name))


def rm_bench(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.plan.parts["hh"]:
        return
    base, seeds = hh_run("BT", "helpful"), evidence.plan.seeds["hh"]
    for name in ("BSR 0.01", "BSR 0.1"):
        for level, sign, words in (("hard", 1, "rises"), ("easy", -1, "falls")):
            measure = Measure(level, ("rm_bench",))
            gain = evidence.results.gain(hh_run(name, "helpful"), base, measure, seeds)
            claim = f"RM-Bench {level} {words} under BSR (chat part, trained on HH-helpful)"
            yield Finding(claim, "decoder", signed(gain), verdict(gain, claimed=sign), strength(name))


def hh_run(name: str, data: str) -> Run:
    """A run on HH pairs."""
    return replace(Run(), data=data, epochs=HH_EPOCHS, **METHODS[name])


def overall(findings: Sequence[Finding]) -> str:
    """One verdict for a claim on one model, from those at its settings."""
    given = [one for one in findings if one.verdict != "not measured"]
    words = list(dict.fromkeys(one.verdict for one in given))
    if len(words) < 2:
        return words[0] if words else "not measured"
    return "; ".join(
        f"{word} at {', '.join(one.setting for one in given if one.verdict == word)}".replace(", λ =", ",")
        for word in words
    )
