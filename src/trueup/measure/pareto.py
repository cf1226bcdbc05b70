"""Fronts: which points no other is better than, and how much they have gained together.

All objectives are maximised.

**Source** hypervolume: Zitzler & Thiele (1998), Multiobjective optimization using evolutionary algorithms, PPSN V;
the sweep over the last objective is that of Knowles (2002) and Zitzler (2001), "hypervolume by slicing objectives".
"""

import numpy as np
from jaxtyping import Bool, Float

from trueup.errors import RecipeError

Array = np.ndarray


def dominates(points: Float[Array, "points objectives"]) -> Bool[Array, "points points"]:
    """Whether point i is at least as good as j in every objective, and better in one.

    >>> dominates(np.array([[1.0, 2.0], [1.0, 1.0], [2.0, 0.0]])).tolist()
    [[False, True, False], [False, False, False], [False, False, False]]
    """
    one, other = points[:, None], points[None]
    return np.asarray((one >= other).all(-1) & (one > other).any(-1))


def hypervolume(points: Float[Array, "points objectives"], reference: Float[Array, " objectives"]) -> float:
    """Volume of what is worse than some point and better than the reference, in the product of the objectives' units.

    A point that is not better than the reference in every objective adds nothing.

    Args:
        points: Values of each point.
        reference: Where the volume begins.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    3.0

    Raises:
        RecipeError: A value is not finite.
    """
    if not (np.isfinite(points).all() and np.isfinite(reference).all()):
        raise RecipeError("a hypervolume needs finite values")
    gains = points - reference
    return _volume(gains[(gains > 0).all(axis=1)])


def _volume(gains: Float[Array, "points objectives"]) -> float:
    """Volume between the origin and points with positive coordinates."""
    if not len(gains):
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    ordered = gains[np.argsort(-gains[:, -1], kind="stable")]
    heights = ordered[:, -1] - np.append(ordered[1:, -1], 0.0)
    if gains.shape[1] == 2:
        return float(np.maximum.accumulate(ordered[:, 0]) @ heights)
    slices = [_volume(ordered[: place + 1, :-1]) if height > 0 else 0.0 for place, height in enumerate(heights)]
    return float(np.asarray(slices) @ heights)
