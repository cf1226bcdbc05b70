"""The numbers that a run logs each time it is watched."""

import numpy as np

from trueup.data.watched import Watched
from trueup.measure.bootstrap import Resampling, mean
from trueup.measure.repetition import repetition
from trueup.measure.similarity import distinct

DEFAULT_RESAMPLING = Resampling()


def watch_metrics(watched: Watched, *, resampling: Resampling = DEFAULT_RESAMPLING) -> dict[str, float]:
    """`watch/...` of the last point of a history; what is not known is left out.

    Args:
        watched: A history of at least one point.
        resampling: How the interval of gold is made: over prompts.
    """
    last = watched.take(np.array([len(watched) - 1]))
    found: dict[str, float] = {}
    names = {"proxy": "proxy", "tokens": "length", "ended": "ended"}
    for series, name in names.items():
        values = last.by_prompt(series)
        if values is not None:
            found[f"watch/{name}"] = float(values.mean())
    kl, gold = last.mean_kl, last.by_prompt("gold")
    if kl is not None:
        found["watch/kl"] = float(kl[0])
    if gold is not None and np.any(np.isfinite(gold)):
        estimate = mean(gold[0], resampling=resampling)
        found |= {"watch/gold": estimate.value, "watch/gold_low": estimate.low, "watch/gold_high": estimate.high}
    if last.responses:
        texts = [text for group in last.responses[0] for text in group]
        found |= {"watch/distinct_2": distinct(texts), "watch/repetition": float(np.mean([*map(repetition, texts)]))}
    return {name: value for name, value in found.items() if np.isfinite(value)}
