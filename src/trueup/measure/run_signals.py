"""The signals of the gold-free alarm, measured along a run of online optimisation.

The alarm was learned from best-of-n, whose distance is a number of samples. A run stands at the size n whose nominal KL
is the KL it has spent; RL spends more KL than best-of-n for the same gain, so it soon stands beyond every size that
the alarm has seen, and the alarm then warns of distance alone.
"""

import numpy as np
from jaxtyping import Float

from trueup.data.watched import Watched
from trueup.errors import DataError
from trueup.measure.over_optimization import size_at
from trueup.measure.repetition import repetition
from trueup.measure.scored import Array
from trueup.measure.signals import KL, Signals, expected_max

_APART = 0.1
"""Points nearer to each other than this, in sqrt(nats), give no slope: noise of the KL would be most of it."""


def run_signals(watched: Watched) -> Signals:
    """The signals of `trueup.measure.signals` that a run shows, at each watched point; `n` are its steps.

    Raises:
        DataError: KL is not known at every point, or there is no first point to compare with.
    """
    d = watched.distance
    if d is None or not np.all(np.isfinite(d)) or len(d) == 0:
        raise DataError("KL is not known", field="kl", expected="a value at every watched step")
    values: dict[str, Float[Array, " points"]] = {KL: d**2}
    if watched.proxy is not None:
        values |= _of_proxy(watched.proxy, d)
    if watched.tokens is not None:
        sigma = _spread(watched.tokens[0])
        if sigma > 0:
            values["length_drift"] = (watched.tokens - watched.tokens[0]).mean(axis=(1, 2)) / sigma
    if watched.responses:
        shares = [np.mean([repetition(text) for row in point for text in row]) for point in watched.responses]
        values["repetition_drift"] = np.array(shares) - shares[0]
    return Signals(np.asarray(watched.steps, np.int64), values)


def _of_proxy(proxy: Float[Array, "points prompts samples"], d: Float[Array, " points"]) -> dict[str, Array]:
    sigma = _spread(proxy[0])
    if not sigma > 0:
        return {}
    gain = (proxy - proxy[0]).mean(axis=(1, 2)) / sigma
    gaussian = expected_max(np.array([size_at(float(one)) for one in np.minimum(d, 6.0)]))
    tail = np.divide(gain, gaussian, out=np.full_like(gain, np.nan), where=gaussian > _APART / 2)
    slope = _slopes(gain, gaussian, d)
    relative = slope / slope[0] if slope[0] > 0 else np.full_like(slope, np.nan)
    return {"proxy_slope": relative, "proxy_tail": _carried(tail)}


def _spread(values: Float[Array, "prompts samples"]) -> float:
    """Mean over prompts of the standard deviation within a prompt; 0 where one sample shows none."""
    return float(values.std(axis=1, ddof=1).mean()) if values.shape[1] > 1 else 0.0


def _slopes(
    gain: Float[Array, " points"], gaussian: Float[Array, " points"], d: Float[Array, " points"]
) -> Float[Array, " points"]:
    """Slope from the latest earlier point that is clearly nearer; where there is none, the slope before."""
    slope = np.full_like(gain, np.nan)
    for k in range(1, len(gain)):
        nearer = np.flatnonzero(d[:k] < d[k] - _APART)
        if len(nearer) and gaussian[k] > gaussian[nearer[-1]]:
            slope[k] = (gain[k] - gain[nearer[-1]]) / (gaussian[k] - gaussian[nearer[-1]])
    return _carried(slope)


def _carried(values: Float[Array, " points"]) -> Float[Array, " points"]:
    """Gaps filled by the value before, and by the first value at the start; NaN where there is none at all."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return values
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]
