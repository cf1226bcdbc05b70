"""Over-optimisation seen from watched runs of online optimisation, in one documented mapping.

The schema is in docs/watching.md. All functions here work on what was drawn and scored already.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from trueup.data.watched import Watched
from trueup.errors import DataError, RecipeError, TrueupError
from trueup.measure.bootstrap import Resampling
from trueup.measure.laws import LawFit, compare_forms
from trueup.measure.over_optimization import means, spread_within
from trueup.measure.plain import plain
from trueup.measure.policy_run_examples import examples
from trueup.measure.policy_run_verdict import verdict
from trueup.measure.repetition import repetition
from trueup.measure.run_signals import run_signals
from trueup.measure.scored import Array, Estimate
from trueup.measure.shipped_alarm import shipped_alarm
from trueup.measure.similarity import between_prompts, distinct, to_start
from trueup.measure.stopping import fit_run

SCHEMA = "trueup.policy_audit/1"
_PAIRS = 100
_COMPARED = 2
_COMPARED_PROMPTS = 64


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of one run.

    Args:
        watched: Its history.
        source: Where it was read.
        stopped: `step`, `rule` and `reason`, where a rule stopped it.
        training: Quantities of the training rollouts: steps and values, by name.
        notes: What a reader should know of the numbers.
    """

    watched: Watched
    source: str
    stopped: Mapping[str, Any] | None = None
    training: Mapping[str, tuple[Sequence[int], Sequence[float]]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def audit_runs(
    runs: Mapping[str, RunRecord],
    *,
    resampling: Resampling,
    most_examples: int = 3,
    created_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure runs side by side.

    Args:
        runs: By the name that reports use.
        resampling: How intervals over prompts are made.
        most_examples: Prompts whose responses are shown.
        created_by: Provenance that the mapping shall hold.

    Returns:
        The mapping of schema `trueup.policy_audit/1`, ready for JSON.

    Raises:
        DataError: A run has no points.
        RecipeError: There is no run.
    """
    if not runs:
        raise RecipeError("no run is named")
    for name, run in runs.items():
        if not len(run.watched):
            raise DataError(f"{name} has no watched step", file=run.source, cure="let it run on")
    results = {name: _result(run, resampling=resampling, most_examples=most_examples) for name, run in runs.items()}
    whole: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "created_by": dict(created_by or {}),
            "intervals": {"level": resampling.level, "resamples": resampling.resamples, "seed": resampling.seed},
            "runs": results,
        }
    )
    for result in whole["runs"].values():
        result["verdict"] = plain(verdict(result))
    return whole


def _result(run: RunRecord, *, resampling: Resampling, most_examples: int) -> dict[str, Any]:
    watched = run.watched
    shape = next(
        (np.shape(v) for name in ("proxy", "gold", "kl") if (v := getattr(watched, name)) is not None), (0, 0, 0)
    )
    known = {name: watched.by_prompt(name) for name in ("proxy", "gold", "kl", "tokens", "ended")}
    result: dict[str, Any] = {
        "source": run.source,
        "notes": list(run.notes),
        "prompts": shape[1],
        "samples": shape[2],
        "steps": watched.steps,
        "d": watched.distance,
        "stopped": dict(run.stopped) if run.stopped else None,
        "training": {name: {"steps": steps, "values": values} for name, (steps, values) in run.training.items()},
        "std_within": {name: _spread(getattr(watched, name)) for name in ("proxy", "gold")},
    }
    for name, values in known.items():
        result[name] = None if values is None else means(values.T, resampling)
        result[f"{name}_gain"] = None if values is None else means((values - values[:1]).T, resampling)
    result["drift"] = _drift(watched, resampling)
    result["best"] = _best(watched, result["gold"])
    absent: dict[str, str] = {}
    parts: dict[str, Callable[[], Any]] = {
        "law": lambda: _law(fit_run(watched, resampling=resampling)),
        "forms": lambda: _forms(watched, resampling),
        "warning": lambda: _warning(watched),
        "examples": lambda: examples(watched, most=most_examples),
    }
    for name, part in parts.items():
        try:
            result[name] = part()
        except TrueupError as error:
            result[name], absent[name] = None, str(error)
    return {**result, "absent": absent}


def _spread(values: Float[Array, "points prompts samples"] | None) -> float:
    """Standard deviation within prompts of the first point: the unit in which runs are drawn together."""
    return np.nan if values is None or values.shape[2] < 2 else spread_within(values[0])


def _drift(watched: Watched, resampling: Resampling) -> dict[str, list[Estimate]]:
    """What changes in the texts themselves; nothing where there are none."""
    if not watched.responses:
        return {}
    start = watched.responses[0]
    repeated = np.array([[np.mean([*map(repetition, row)]) for row in point] for point in watched.responses])
    found = {"repetition": means(repeated.T, resampling)}
    every = [[text for row in point for text in row] for point in watched.responses]
    found["distinct_2"] = [Estimate(distinct(texts), np.nan, np.nan, len(texts)) for texts in every]
    few = slice(_COMPARED_PROMPTS)
    similar = np.stack([to_start(point[few], start[few], most=_COMPARED) for point in watched.responses])
    found["similarity_to_start"] = means(similar.T, resampling)
    if len(start) > 1:
        # the same pairs at every step: what changes is then the policy
        pairs = [
            between_prompts(point, pairs=_PAIRS, generator=np.random.default_rng(resampling.seed))
            for point in watched.responses
        ]
        found["similarity_between_prompts"] = means(np.stack(pairs).T, resampling)
    return found


def _best(watched: Watched, gold: Sequence[Estimate] | None) -> dict[str, Any] | None:
    """The step with the highest mean gold."""
    values = [np.nan if one is None else one.value for one in gold or ()]
    if not np.any(np.isfinite(values)):
        return None
    place = int(np.nanargmax(values))
    return {"point": place, "step": int(watched.steps[place]), "gold": gold[place] if gold else None}


def _law(fit: LawFit) -> dict[str, Any]:
    values = {name: value for name, value in vars(fit).items() if name != "law"}
    return {**values, "observed": vars(fit.observed)}


def _forms(watched: Watched, resampling: Resampling) -> dict[str, Any]:
    """Which of the two laws fits the run better."""
    d, gold = watched.distance, watched.by_prompt("gold")
    if d is None or gold is None:
        raise DataError("gold or KL is not known", field="gold" if gold is None else "kl")
    used = np.isfinite(d) & np.all(np.isfinite(gold), axis=1) & ((watched.steps == 0) | (d > 0))
    return dict(vars(compare_forms(d[used], gold[used].T, resampling=resampling)))


def _warning(watched: Watched) -> dict[str, Any]:
    """What the alarm without gold says along the run."""
    alarm, seen = shipped_alarm(), run_signals(watched)
    model = alarm.model_for(seen)
    return {
        "probability": [round(float(value), 4) for value in model.probability(seen)],
        "step": alarm.first_alarm(seen),
        "signals": list(model.signals),
        "false_alarm_rate": alarm.false_alarm_rate,
    }
