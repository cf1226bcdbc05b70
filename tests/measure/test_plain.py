import json
from typing import NamedTuple

import numpy as np

from trueup.measure.plain import plain
from trueup.measure.scored import Estimate


class Point(NamedTuple):
    x: float
    y: Estimate


def test_everything_becomes_json():
    value = {
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "array": np.array([[1, 2], [3, 4]]),
        "floats": np.array([0.5, np.nan]),
        "point": Point(1.0, Estimate(np.float64(0.5), float("nan"), 1.0, 3)),
        "tuple": ("a", None, True, np.int64(7), np.bool_(False)),
        3: "key",
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "nan": None,
        "inf": None,
        "array": [[1, 2], [3, 4]],
        "floats": [0.5, None],
        "point": {"x": 1.0, "y": {"value": 0.5, "low": None, "high": 1.0, "n": 3}},
        "tuple": ["a", None, True, 7, False],
        "3": "key",
    }
