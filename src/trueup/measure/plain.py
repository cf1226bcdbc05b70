"""From estimates and arrays to what JSON can hold."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trueup.measure.scored import Estimate


def plain(value: Any) -> Any:
    """Nested dicts, lists, numbers and strings; NaN and infinities become None.

    An `Estimate` becomes {"value", "low", "high", "n"}; a named tuple becomes a dict of its fields.
    """
    if isinstance(value, Estimate):
        return {"value": plain(value.value), "low": plain(value.low), "high": plain(value.high), "n": value.n}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
