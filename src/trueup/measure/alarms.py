"""Warnings without gold: "gold has probably fallen from its peak", learned from runs in which gold was known.

Signals that a run cannot have (members, of a single reward model) are not imputed: whether they are there says what was
optimised, and a model would learn the mix of its tuning runs from it. There is one model for each set of signals that
occurs, fitted to all runs that have them, and a run is judged by the largest set that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trueup.errors import DataError, RecipeError
from trueup.measure.alarm_labels import Run, checked_runs, gold_has_fallen
from trueup.measure.alarm_model import AlarmModel, Labelled, fit_model, learnable
from trueup.measure.scored import Array
from trueup.measure.signals import KL, Signals

SCHEMA = "trueup.alarm/1"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A fitted alarm.

    Args:
        models: One for each set of signals, the larger sets first.
        singles: One for each signal alone, to compare with.
        false_alarm_rate: Share of tuning runs that the thresholds let be warned before gold falls.
        created_by: Where it comes from: tuning runs, their labels and the settings.
    """

    models: tuple[AlarmModel, ...]
    singles: tuple[AlarmModel, ...]
    false_alarm_rate: float
    created_by: Mapping[str, Any] = field(default_factory=dict)

    def model_for(self, signals: Signals) -> AlarmModel:
        """The model with the most signals of those that are known; of several, the one with the lowest `log_loss`.

        Raises:
            DataError: No model's signals are all there and finite.
        """
        fitting = [model for model in self.models if signals.known.issuperset(model.signals)]
        if not fitting:
            needed = " or ".join(", ".join(model.signals) for model in self.models)
            raise DataError(f"signals {', '.join(sorted(signals.known)) or 'none'}", expected=needed)
        return max(fitting, key=lambda model: (len(model.signals), -model.log_loss))

    def applies(self, signals: Signals) -> bool:
        """Whether there is a model for these signals."""
        return any(signals.known.issuperset(model.signals) for model in self.models)

    def probability(self, signals: Signals) -> Float[Array, " ns"]:
        """Calibrated probability at each size that gold has fallen from its peak."""
        return self.model_for(signals).probability(signals)

    def warns(self, signals: Signals) -> Bool[Array, " ns"]:
        """Whether it warns, at each size."""
        model = self.model_for(signals)
        return model.log_odds(signals) > model.threshold

    def first_alarm(self, signals: Signals) -> int | None:
        """The first size at which it warns, or None."""
        places = np.flatnonzero(self.warns(signals))
        return int(signals.n[places[0]]) if len(places) else None

    def only(self, name: str) -> "Alarm":
        """The alarm of one signal alone.

        Raises:
            RecipeError: The signal has no model.
        """
        found = tuple(model for model in self.singles if model.signals == (name,))
        if not found:
            known = ", ".join(model.signals[0] for model in self.singles)
            raise RecipeError(f"signal must be one of {known}; got {name}")
        return Alarm(
            models=found, singles=found, false_alarm_rate=self.false_alarm_rate, created_by=dict(self.created_by)
        )

    def to_dict(self) -> dict[str, Any]:
        """The alarm, ready for JSON."""
        return {
            "schema": SCHEMA,
            "false_alarm_rate": self.false_alarm_rate,
            "models": [model.to_dict() for model in self.models],
            "singles": [model.to_dict() for model in self.singles],
            "created_by": dict(self.created_by),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Alarm":
        """The alarm that `to_dict` wrote.

        Raises:
            DataError: It is of another schema, or a field is missing.
        """
        if values.get("schema") != SCHEMA:
            raise DataError(f"{values.get('schema')!r}", field="schema", expected=SCHEMA, cure="fit the alarm again")
        missing = {"models", "singles", "false_alarm_rate", "created_by"} - set(values)
        if missing:
            raise DataError(f"no {', '.join(sorted(missing))}", expected="all fields of an alarm")
        models, singles = (tuple(map(AlarmModel.from_dict, values[name])) for name in ("models", "singles"))
        rate, created_by = values["false_alarm_rate"], values["created_by"]
        return cls(models=models, singles=singles, false_alarm_rate=rate, created_by=created_by)


def fit_alarm(
    runs: Sequence[Run],
    *,
    signals: Sequence[str] | None = None,
    penalty: float = 1.0,
    false_alarm_rate: float = 0.1,
    level: float = 0.95,
    created_by: Mapping[str, Any] | None = None,
) -> Alarm:
    """Learn an alarm from runs in which gold is known.

    Every model is a logistic regression with a ridge on standardised signals; sizes at which it cannot be told whether
    gold has fallen are left out, and each run weighs the same however many sizes it has. Each group of runs in turn is
    kept out of training; its scores calibrate the probabilities (Platt) and set the threshold. The threshold is the one
    that a further run of the same kind exceeds before gold falls with probability `false_alarm_rate` at most, if runs
    are exchangeable; with fewer than `1 / false_alarm_rate` runs that cannot be promised, and it is the highest false
    score that was met. It holds among all runs and among those in which gold never fell.

    Args:
        runs: Tuning runs; groups of runs are what is kept out together.
        signals: Names to use; every set that occurs, and KL alone, when None.
        penalty: Ridge, in units of one run's likelihood for one standard deviation squared.
        false_alarm_rate: Share of runs that may be warned falsely, in (0, 1).
        level: Confidence that a fall of gold needs; see `gold_has_fallen`.
        created_by: Further provenance.

    Raises:
        DataError: Fewer than two runs have the signals, or gold falls in none of them, or in all from the start.
    """
    if not 0 < false_alarm_rate < 1 or not penalty >= 0:
        raise RecipeError(
            f"false_alarm_rate must lie between 0 and 1 and penalty be 0 or more, got {false_alarm_rate} and {penalty}"
        )
    known = [Labelled(run, gold_has_fallen(run.gold_by_prompt, level=level)) for run in checked_runs(runs)]
    asked = _sets(runs) if signals is None else [frozenset(signals)]
    names = sorted(frozenset[str]().union(*asked))
    fitted, skipped = _fit_sets(known, asked, penalty=penalty, false_alarm_rate=false_alarm_rate)
    if not fitted:
        raise _cannot_learn(known, names)
    singles, alone = _fit_sets(
        known, [frozenset((name,)) for name in names], penalty=penalty, false_alarm_rate=false_alarm_rate
    )
    provenance = {
        "tuning": _tuning(known),
        "settings": {"penalty": penalty, "level": level},
        "not_fitted": [*skipped, *alone],
        **(created_by or {}),
    }
    return Alarm(models=fitted, singles=singles, false_alarm_rate=false_alarm_rate, created_by=provenance)


def _sets(runs: Sequence[Run]) -> list[frozenset[str]]:
    """Sets of signals that occur, and KL alone as the last resort; the larger first."""
    found = {run.signals.known for run in runs} | {frozenset((KL,))}
    return sorted(found, key=lambda one: (-len(one), sorted(one)))


def _fit_sets(
    runs: Sequence[Labelled], sets: Sequence[frozenset[str]], *, penalty: float, false_alarm_rate: float
) -> tuple[tuple[AlarmModel, ...], list[list[str]]]:
    """Models of the sets that can be learned, and the sets that cannot."""
    models, skipped = [], []
    for one in sets:
        having = [run for run in runs if run.run.signals.known >= one]
        if one and learnable(having):
            models.append(fit_model(having, sorted(one), penalty=penalty, false_alarm_rate=false_alarm_rate))
        else:
            skipped.append(sorted(one))
    return tuple(models), skipped


def _cannot_learn(runs: Sequence[Labelled], names: Sequence[str]) -> DataError:
    fallen = sum(one.labels.onset is not None for one in runs)
    return DataError(
        f"gold falls in {fallen} of {len(runs)} runs, and these may lack {', '.join(names) or 'any signals'}",
        expected="two runs or more that have the signals, with sizes at which gold has fallen and others",
        cure="add runs with more optimisation, or with less",
    )


def _tuning(runs: Sequence[Labelled]) -> dict[str, Any]:
    states = np.concatenate([one.labels.state[one.labels.told] for one in runs])
    return {
        "runs": [one.run.name for one in runs],
        "groups": sorted({str(one.run.group) for one in runs}),
        "fallen_runs": sum(one.labels.onset is not None for one in runs),
        "fallen_sizes": int(np.count_nonzero(states == 1)),
        "not_fallen_sizes": int(np.count_nonzero(states == 0)),
        "ambiguous_sizes": sum(one.labels.ambiguous for one in runs),
    }
