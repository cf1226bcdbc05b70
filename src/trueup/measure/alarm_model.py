"""One fitted alarm: a calibrated logistic model of some signals, and the threshold at which it warns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, log_expit

from trueup.errors import DataError
from trueup.measure.alarm_labels import Labels, Run
from trueup.measure.logistic import Logistic, fit_logistic, platt
from trueup.measure.scored import Array
from trueup.measure.signals import Signals


@dataclass(frozen=True, kw_only=True)
class AlarmModel:
    """`P(gold has fallen) = sigmoid(sum_i weight_i * (signal_i - mean_i) / std_i + bias)`.

    Args:
        signals: Names of the signals.
        mean: Mean of each over the tuning runs.
        std: Standard deviation of each.
        weights: In log-odds for one standard deviation, calibration included.
        bias: Log-odds at the mean.
        threshold: Log-odds above which it warns.
        runs: How many tuning runs it was fitted to.
        fallen: In how many of them gold fell.
        log_loss: Mean negative log-likelihood of the labels of runs kept out of training, in nats.
    """

    signals: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float
    runs: int
    fallen: int
    log_loss: float

    def log_odds(self, signals: Signals) -> Float[Array, " ns"]:
        """Log-odds that gold has fallen, at each size."""
        table = (table_of(signals, self.signals) - np.array(self.mean)) / np.array(self.std)
        return table @ np.array(self.weights) + self.bias

    def probability(self, signals: Signals) -> Float[Array, " ns"]:
        """Probability that gold has fallen, at each size."""
        return np.asarray(expit(self.log_odds(signals)), np.float64)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AlarmModel":
        """The model that `to_dict` wrote.

        Raises:
            DataError: A field is missing, unknown or of a wrong length.
        """
        names = {one.name for one in fields(cls)}
        if set(values) != names:
            raise DataError(f"fields {', '.join(sorted(values))}", expected=", ".join(sorted(names)))
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        model = cls(**given)
        if {len(one) for one in (model.mean, model.std, model.weights)} != {len(model.signals)}:
            raise DataError("mean, std and weights of different lengths", expected=f"{len(model.signals)} each")
        return model


@dataclass(frozen=True)
class Labelled:
    """A run with its labels."""

    run: Run
    labels: Labels


def table_of(signals: Signals, names: Sequence[str]) -> Float[Array, "ns signals"]:
    """The named signals as columns."""
    return np.stack([np.asarray(signals.values[name], np.float64) for name in names], axis=1)


def learnable(runs: Sequence[Labelled]) -> bool:
    """Whether there are two runs or more, sizes at which gold has fallen, and sizes at which it has not."""
    states = np.concatenate([one.labels.state[one.labels.told] for one in runs]) if runs else np.zeros(0)
    return len(runs) > 1 and bool(np.any(states == 1)) and bool(np.any(states == 0))


def fit_model(runs: Sequence[Labelled], names: Sequence[str], *, penalty: float, false_alarm_rate: float) -> AlarmModel:
    """Fit, calibrate, and set the threshold; see `trueup.measure.alarms.fit_alarm`."""
    parts = [_Points.of(one, names) for one in runs]
    mean, std = _moments(parts)
    whole = _fit(parts, mean=mean, std=std, penalty=penalty)
    labels, point_weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "weights"))
    kept_out = _kept_out(runs, parts, penalty)
    scores = np.concatenate([values[one.labels.told] for one, values in zip(runs, kept_out, strict=True)])
    slope, shift = platt(scores, labels, point_weights=point_weights)
    losses = -log_expit(np.where(labels == 1, 1.0, -1.0) * (slope * scores + shift))
    return AlarmModel(
        signals=tuple(names),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        weights=tuple((slope * whole.weights).tolist()),
        bias=slope * whole.bias + shift,
        threshold=_threshold(runs, [slope * values + shift for values in kept_out], false_alarm_rate),
        runs=len(runs),
        fallen=sum(one.labels.onset is not None for one in runs),
        log_loss=float(np.average(losses, weights=point_weights)),
    )


@dataclass(frozen=True)
class _Points:
    """A run as training sees it; the places that can be told weigh together as much as those of any other run."""

    whole: Float[Array, "ns signals"]
    table: Float[Array, "told signals"]
    labels: Float[Array, " told"]
    weights: Float[Array, " told"]

    @classmethod
    def of(cls, one: Labelled, names: Sequence[str]) -> "_Points":
        whole, told = table_of(one.run.signals, names), one.labels.told
        labels = one.labels.state[told].astype(np.float64)
        return cls(whole, whole[told], labels, np.full(len(told), 1 / max(len(told), 1)))


def _moments(parts: Sequence[_Points]) -> tuple[Float[Array, " signals"], Float[Array, " signals"]]:
    table, weights = np.concatenate([p.table for p in parts]), np.concatenate([p.weights for p in parts])
    mean = np.average(table, axis=0, weights=weights)
    std = np.sqrt(np.average((table - mean) ** 2, axis=0, weights=weights))
    # a signal that never moved tells nothing; its weight stays zero
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1.0), std, 1.0)


def _fit(
    parts: Sequence[_Points], *, mean: Float[Array, " signals"], std: Float[Array, " signals"], penalty: float
) -> Logistic:
    return fit_logistic(
        (np.concatenate([part.table for part in parts]) - mean) / std,
        np.concatenate([part.labels for part in parts]),
        point_weights=np.concatenate([part.weights for part in parts]),
        penalty=penalty,
    )


def _kept_out(runs: Sequence[Labelled], parts: Sequence[_Points], penalty: float) -> list[Array]:
    """Log-odds along each run by a model that saw no run of its group; of a single group, none of its own."""
    groups = [str(one.run.group) for one in runs]
    units = groups if len(set(groups)) > 1 else [str(place) for place in range(len(runs))]
    found: dict[int, Array] = {}
    for unit in dict.fromkeys(units):
        others = [part for part, own in zip(parts, units, strict=True) if own != unit]
        mean, std = _moments(others)
        fit = _fit(others, mean=mean, std=std, penalty=penalty)
        for place in (at for at, own in enumerate(units) if own == unit):
            found[place] = fit.log_odds((parts[place].whole - mean) / std)
    return [found[place] for place in range(len(runs))]


def _threshold(runs: Sequence[Labelled], log_odds: Sequence[Array], rate: float) -> float:
    """Log-odds exceeded falsely in no more than a share `rate` of runs, both of all and of those that never fell."""
    highest: list[float] = []
    never_fell: list[float] = []
    for one, values in zip(runs, log_odds, strict=True):
        if len(one.labels.before):
            highest.append(float(values[one.labels.before].max()))
            never_fell += highest[-1:] if one.labels.onset is None else []
    # even odds where no warning can be false
    return max((_quantile(part, rate) for part in (highest, never_fell) if part), default=0.0)


def _quantile(values: Sequence[float], rate: float) -> float:
    """Value that one more of the kind exceeds with probability `rate` at most; the largest where too few are known."""
    rank = int(np.ceil((len(values) + 1) * (1 - rate)))
    return sorted(values)[min(rank, len(values)) - 1]
