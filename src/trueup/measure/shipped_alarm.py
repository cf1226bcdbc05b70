"""The alarm that reports carry: learned by `trueup lab reproduce alarms` and kept beside this file."""

import json
from functools import cache
from importlib.resources import files

from trueup.measure.alarms import Alarm


@cache
def shipped_alarm() -> Alarm:
    """The alarm without gold; docs/evidence/alarms.md says how far it can be trusted."""
    text = files("trueup.measure").joinpath("alarm.json").read_text(encoding="utf-8")
    return Alarm.from_dict(json.loads(text))
