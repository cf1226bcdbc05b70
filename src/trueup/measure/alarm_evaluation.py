"""How good alarms are on runs that never tuned them: ranking, false alarms, delay, calibration, and KL alone beside."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.special import expit

from trueup.errors import DataError
from trueup.measure.alarm_labels import Run, checked_runs, gold_has_fallen
from trueup.measure.alarm_metrics import auroc_difference, auroc_estimate, reliability
from trueup.measure.alarm_model import Labelled
from trueup.measure.alarms import Alarm
from trueup.measure.bootstrap import Resampling, proportions, ratios, sum_by
from trueup.measure.calibration import ReliabilityBin
from trueup.measure.plain import plain
from trueup.measure.scored import Array, Estimate
from trueup.measure.signals import KL

LEARNED = "learned"

_UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True, kw_only=True)
class AlarmScores:
    """One alarm on unseen runs. Intervals resample groups of runs (runs, if there is one group).

    Args:
        name: `learned`, or the signal that it uses alone.
        runs: Runs that have its signals.
        auroc: Probability that a size at which gold has fallen ranks above one at which it has not; ties count half.
        over_kl: The same minus that of KL alone, on the same runs. The intervals of all alarms hold together
            (Bonferroni).
        false_runs: Share of runs warned at a size at which gold has not fallen yet.
        false_sizes: Share of such sizes.
        detected: Share of the runs in which gold fell that were warned, and not falsely before.
        delay: KL from the first size at which gold had fallen to the first warning, in those runs; nats. Negative where
            it came at a size that cannot be told.
        ece: Expected calibration error, `sum_b n_b / n |probability_b - share_b|`; biased upwards for few runs.
        reliability: The bins, of about equal numbers of sizes: mean probability, share at which gold has fallen.
    """

    name: str
    runs: int
    auroc: Estimate
    over_kl: Estimate
    false_runs: Estimate
    false_sizes: Estimate
    detected: Estimate
    delay: Estimate
    ece: Estimate
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class AlarmTable:
    """All alarms on the same unseen runs.

    Args:
        scores: The learned alarm first, then KL, then the other signals by falling AUROC.
        runs: Number of runs.
        groups: Number of groups.
        fallen_runs: In how many gold fell.
        ambiguous: Sizes left out because it cannot be told whether gold has fallen.
        better_than_kl: Alarms whose gain over KL has an interval above zero.
        verdict: In words, whether anything beats KL alone.
    """

    scores: tuple[AlarmScores, ...]
    runs: int
    groups: int
    fallen_runs: int
    ambiguous: int
    better_than_kl: tuple[str, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        whole: dict[str, Any] = plain({**vars(self), "scores": [vars(one) for one in self.scores]})
        return whole


def evaluate_alarms(
    alarm: Alarm,
    runs: Sequence[Run],
    *,
    level: float = 0.95,
    bins: int = 10,
    resampling: Resampling,
) -> AlarmTable:
    """Judge an alarm, and each signal alone, on runs that did not tune it.

    Args:
        alarm: What was tuned elsewhere; its `singles` are judged beside it.
        runs: Unseen runs, with gold.
        level: Confidence that a fall of gold needs; see `gold_has_fallen`.
        bins: Most bins of the reliability curve.
        resampling: How intervals are made.

    Raises:
        DataError: A run or a group tuned the alarm, or no run has the signals that it needs.
    """
    unseen = [Labelled(run, gold_has_fallen(run.gold_by_prompt, level=level)) for run in _unseen(alarm, runs)]
    names = [model.signals[0] for model in alarm.singles]
    alarms = {LEARNED: alarm, **{name: alarm.only(name) for name in sorted(names, key=lambda name: name != KL)}}
    judged = {name: [one for one in unseen if each.applies(one.run.signals)] for name, each in alarms.items()}
    if not judged[LEARNED]:
        alarm.model_for(unseen[0].run.signals)
    if not any(len(one.labels.told) for one in judged[LEARNED]):
        raise DataError("at no size can it be told whether gold has fallen", cure="add prompts, or larger sizes")
    # as many comparisons with KL as there are other alarms
    share = (1 - resampling.level) / max(len(alarms) - 1, 1)
    together = replace(resampling, level=1 - share)
    scores = [
        _score(name, each, judged[name], kl=alarms.get(KL), bins=bins, resampling=(resampling, together))
        for name, each in alarms.items()
        if any(len(one.labels.told) for one in judged[name])
    ]
    return _table(scores, unseen)


def _unseen(alarm: Alarm, runs: Sequence[Run]) -> list[Run]:
    checked, tuning = checked_runs(runs), alarm.created_by.get("tuning", {})
    seen = [run.name for run in checked if str(run.group) in tuning.get("groups", ())]
    if seen:
        cure = "judge it on other groups; signals and gold of one group are not independent"
        raise DataError(f"runs of groups that tuned the alarm: {', '.join(seen)}", field="group", cure=cure)
    return checked


def _score(
    name: str,
    alarm: Alarm,
    runs: Sequence[Labelled],
    *,
    kl: Alarm | None,
    bins: int,
    resampling: tuple[Resampling, Resampling],
) -> AlarmScores:
    each, together = resampling
    by_run = _units(runs)
    labels, unit = (
        _told(runs, [one.labels.state for one in runs]),
        np.repeat(by_run, [len(one.labels.told) for one in runs]),
    )
    own = _told(runs, [alarm.model_for(one.run.signals).log_odds(one.run.signals) for one in runs])
    over = _UNKNOWN
    if kl is not None and name != KL:
        other = _told(runs, [kl.models[0].log_odds(one.run.signals) for one in runs])
        over = auroc_difference((own, other), labels, unit, resampling=together)
    error, bins_found = reliability(expit(own), labels, unit, bins=bins, resampling=each)
    return AlarmScores(
        name=name,
        runs=len(runs),
        auroc=auroc_estimate(own, labels, unit, resampling=each),
        over_kl=over,
        **_warnings(alarm, runs, by_run, resampling=each),
        ece=error,
        reliability=bins_found,
    )


def _units(runs: Sequence[Labelled]) -> Int[Array, " runs"]:
    """Unit of each run for resampling: its group, or the run itself if there is one group."""
    groups = [str(one.run.group) for one in runs]
    return np.unique(groups, return_inverse=True)[1] if len(set(groups)) > 1 else np.arange(len(runs))


def _told(runs: Sequence[Labelled], values: Sequence[Array]) -> Array:
    """Values at the sizes that can be told, of all runs."""
    return np.concatenate([value[one.labels.told] for one, value in zip(runs, values, strict=True)])


def _warnings(
    alarm: Alarm, runs: Sequence[Labelled], unit: Int[Array, " runs"], *, resampling: Resampling
) -> dict[str, Estimate]:
    """False alarms, detection and delay."""
    table = np.array([_of_run(alarm, one) for one in runs])
    falsely, sizes_warned, sizes, fallen, detected, delay = sum_by(table, unit, int(unit.max()) + 1).T
    judgeable = np.bincount(unit, weights=table[:, 2] > 0, minlength=len(sizes))
    successes = np.stack([falsely, sizes_warned, detected], axis=1)
    false_runs, false_sizes, found = proportions(
        successes, np.stack([judgeable, sizes, fallen], axis=1), resampling=resampling
    )
    (late,) = ratios(delay[:, None], detected[:, None], resampling=resampling)
    return {"false_runs": false_runs, "false_sizes": false_sizes, "detected": found, "delay": late}


def _of_run(alarm: Alarm, one: Labelled) -> tuple[float, ...]:
    """Whether warned falsely, sizes warned falsely, sizes before the fall, whether fallen, whether detected, delay."""
    warned, onset = alarm.warns(one.run.signals), one.labels.onset
    before = one.labels.before
    false = float(np.count_nonzero(warned[before]))
    found = onset is not None and not false and bool(warned.any())
    kl = one.run.signals.values[KL]
    delay = float(kl[np.argmax(warned)] - kl[onset]) if found and onset is not None else 0.0
    return float(false > 0), false, float(len(before)), float(onset is not None), float(found), delay


def _table(scores: Sequence[AlarmScores], runs: Sequence[Labelled]) -> AlarmTable:
    first = [one for one in scores if one.name in (LEARNED, KL)]
    others = [one for one in scores if one.name not in (LEARNED, KL)]
    ranked = [*first, *sorted(others, key=lambda one: -np.nan_to_num(one.auroc.value, nan=-1.0))]
    better = tuple(one.name for one in ranked if one.over_kl.low > 0)
    return AlarmTable(
        scores=tuple(ranked),
        runs=len(runs),
        groups=len({str(one.run.group) for one in runs}),
        fallen_runs=sum(one.labels.onset is not None for one in runs),
        ambiguous=sum(one.labels.ambiguous for one in runs),
        better_than_kl=better,
        verdict=_verdict(ranked, better),
    )


def _verdict(scores: Sequence[AlarmScores], better: Sequence[str]) -> str:
    kl = next((one for one in scores if one.name == KL), None)
    known = [one for one in scores if np.isfinite(one.over_kl.low)]
    if kl is None or not known:
        return "cannot tell whether anything beats KL alone: too few runs, or gold fell in none or everywhere"
    if better:
        gains = [f"{one.name} by {_number(one.over_kl)}" for one in known if one.name in better]
        return f"yes: KL alone has AUROC {_number(kl.auroc)} and is beaten by {'; '.join(gains)}"
    best = max(known, key=lambda one: one.over_kl.value)
    return (
        f"no: nothing is shown to beat KL alone, AUROC {_number(kl.auroc)}; the nearest is {best.name}, with a "
        f"difference of {_number(best.over_kl, '+.2f')}"
    )


def _number(estimate: Estimate, style: str = ".2f") -> str:
    return f"{estimate.value:{style}} ({estimate.low:{style}} to {estimate.high:{style}})"
