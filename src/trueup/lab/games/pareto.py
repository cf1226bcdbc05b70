"""Fronts of two rewards, both to be maximised."""

import numpy as np
from jaxtyping import Float

Array = np.ndarray
Points = Float[Array, "points 2"]


def hypervolume(points: Points, worst: Float[Array, " 2"]) -> float:
    """Area that at least one point is better than in both rewards, above the worst corner.

    >>> hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 1.0]]), np.zeros(2))
    5.0
    """
    above = points[(points > worst).all(axis=1)]
    area, height = 0.0, float(worst[1])
    for first, second in above[np.argsort(-above[:, 0], kind="stable")]:
        if second > height:
            area += float((first - worst[0]) * (second - height))
            height = float(second)
    return area


def along(path: Float[Array, "points 3"], at: float) -> Float[Array, " 2"]:
    """Two rewards where a path first reaches a distance, between its points by straight lines; NaN where it never does.

    Args:
        path: Distance and both rewards of each point, in the order of the path.
        at: The distance.
    """
    reached = np.maximum.accumulate(path[:, 0])
    if not reached[-1] >= at:
        return np.full(2, np.nan)
    after = int(np.argmax(reached >= at))
    if after == 0 or reached[after] == at:
        return np.asarray(path[after, 1:])
    share = (at - reached[after - 1]) / (reached[after] - reached[after - 1])
    return np.asarray((1 - share) * path[after - 1, 1:] + share * path[after, 1:])
