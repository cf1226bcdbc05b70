"""The short answer at the head of the page, in sentences made from the results."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from four_shifts_claims import BASES, STRENGTHS, Evidence, Finding, signed
from four_shifts_plan import MAP, MAP_METHODS, METHODS, MINILM, MINILM_MAP, Run
from four_shifts_stats import RESAMPLING, TITLES, Measure, method_run
from four_shifts_tables import EARLY, Writer, figure_of

from trueup.measure.bootstrap import paired_difference
from trueup.measure.scored import Estimate

UNSEEN, SPREAD = Measure("tau"), Measure("reward_std", ("in_domain",))


def in_short(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """The section."""
    writer = Writer(evidence)
    sentences = [
        answer(evidence),
        *mechanics(evidence),
        *gains(evidence),
        *opponents(evidence, writer),
        *conditions(evidence),
    ]
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    return f"""## In short

{listed}

{writer.short(findings)}

*Reproduced*: the interval lies on the claimed side of zero. *Contradicted*: it lies on the other side. *Not at this
scale*: it holds zero, so that no effect was seen. The numbers are further down.
"""


def level(evidence: Evidence, model: str, name: str, measure: Measure) -> float:
    return evidence.results.level(method_run(BASES[model], name), measure, evidence.plan.seeds[model]).value


def answer(evidence: Evidence) -> str:
    """How often the gain was clear, over models and strengths."""
    parts = []
    for words, measure in (("after the last epoch", UNSEEN), ("with both stopped early", EARLY)):
        found = [evidence.gain(model, name, measure) for model, _, _ in evidence.models() for name in STRENGTHS]
        better, worse = sum(one.low > 0 for one in found), sum(one.high < 0 for one in found)
        parts.append(f"{words} it is clear in {better} of {len(found)} comparisons (a clear loss in {worse})")
    return f"**Does BSR order unseen data better than BT?** Over models and λ = 0.001, 0.01, 0.1: {'; '.join(parts)}."


def mechanics(evidence: Evidence) -> Iterator[str]:
    """What the penalty does to rewards and norms."""
    for model, _, _ in evidence.models():
        spread = [figure_of(level(evidence, model, name, SPREAD), 2) for name in ("BT", *STRENGTHS)]
        cv = [figure_of(level(evidence, model, name, Measure("norm_cv")), 4) for name in ("BT", STRENGTHS[-1])]
        yield (
            f"**{TITLES[model]}: spread.** The in-domain reward std falls from {spread[0]} with BT to "
            f"{', '.join(spread[1:])} with λ = 0.001, 0.01, 0.1. On unseen data the norm that the head reads has "
            f"std / mean {cv[0]} with BT and {cv[1]} with λ = 0.1."
        )


def gains(evidence: Evidence) -> Iterator[str]:
    """Whether unseen data are ordered better."""
    for model, _, _ in evidence.models():
        by_name = {name: evidence.gain(model, name, UNSEEN) for name in STRENGTHS}
        early = evidence.gain(model, STRENGTHS[-1], EARLY)
        parts = "; ".join(f"λ = {name[4:]}: {signed(gain)}" for name, gain in by_name.items())
        bt = figure_of(level(evidence, model, "BT", UNSEEN))
        yield (
            f"**{TITLES[model]}: order of unseen data.** BT's mean τ is {bt} after the last epoch; BSR adds {parts}. "
            f"With early stopping on both sides λ = 0.1 adds {signed(early)}."
        )


def opponents(evidence: Evidence, writer: Writer) -> Iterator[str]:
    """Against cheaper means to the same end."""
    for model, base, seeds in evidence.models():
        names = [name for name in writer.names(model) if name.startswith(("centring", "weight"))]
        if not names:
            continue
        late = evidence.results.values(method_run(base, STRENGTHS[-1]), UNSEEN, seeds)
        early = evidence.results.values(base, EARLY, seeds)
        stopped = signed(paired_difference(early, late, resampling=RESAMPLING))
        matched = {name: writer.matched_gain(model, name, UNSEEN) for name in names}
        parts = "; ".join(f"{name}: {signed(gain)}" for name, gain in matched.items() if np.isfinite(gain.value))
        best = max(names, key=lambda name: np.nan_to_num(level(evidence, model, name, UNSEEN), nan=-1.0))
        yield (
            f"**{TITLES[model]}: opponents.** λ = 0.1 at the last epoch against BT stopped early: {stopped}. "
            f"BSR at the same reward std, minus {parts}. The control with the highest τ is {best}, "
            f"{signed(evidence.gain(model, best, UNSEEN))} over BT."
        )


def conditions(evidence: Evidence) -> Iterator[str]:
    """Where the gain is clear, and where it is not."""
    for base, points, part in ((Run(), MAP, "map"), (MINILM, MINILM_MAP, "minilm_map")):
        if not evidence.plan.parts[part]:
            continue
        found = {name: map_gain(evidence, replace(base, **change), part) for name, change in points.items()}
        clear = [f"{name} ({signed(gain)})" for name, gain in found.items() if gain.low > 0]
        harmful = [f"{name} ({signed(gain)})" for name, gain in found.items() if gain.high < 0]
        yield (
            f"**When ({'decoder' if part == 'map' else 'MiniLM'}, {MAP_METHODS[-1]}, last epoch).** Of {len(found)} "
            f"conditions the gain is clear in {len(clear)}: {'; '.join(clear) or 'none'}. It is a clear loss in "
            f"{len(harmful)}: {'; '.join(harmful) or 'none'}."
        )


def map_gain(evidence: Evidence, start: Run, part: str) -> Estimate:
    run = replace(start, **METHODS[MAP_METHODS[-1]])
    return evidence.results.gain(run, start, UNSEEN, evidence.plan.seeds[part])
