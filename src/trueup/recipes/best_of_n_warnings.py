"""The warning that needs no gold, for every proxy of a best-of-n report."""

from collections.abc import MutableMapping
from typing import Any

import numpy as np

from trueup.data.pools import Pool
from trueup.measure.shipped_alarm import shipped_alarm
from trueup.measure.signals import Observed, repetitions, signals


def add_warnings(result: MutableMapping[str, Any], pool: Pool) -> None:
    """Write into every proxy's entry of `results`, under `warning`, what the shipped alarm says.

    `probability` states at each n the chance that gold has fallen below an earlier value; `n` is the first size at
    which the alarm warns, or None; `signals` is what it looked at. None where the proxy gives nothing to look at.
    """
    alarm = shipped_alarm()
    sizes = np.asarray(result["n"])
    repeated = repetitions(pool.responses)
    for name, one in result["results"].items():
        score = pool.score(name)
        one["warning"] = None
        if not np.any(score.std(axis=1) > 0):
            continue
        observed = Observed(proxy=score, members=pool.members(name), tokens=pool.tokens, repetition=repeated)
        seen = signals(observed, sizes)
        if not alarm.applies(seen):
            continue
        one["warning"] = {
            "probability": [round(float(value), 4) for value in alarm.probability(seen)],
            "n": alarm.first_alarm(seen),
            "signals": list(alarm.model_for(seen).signals),
            "false_alarm_rate": alarm.false_alarm_rate,
        }
