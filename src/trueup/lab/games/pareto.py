"""Two rewards along a path."""

import numpy as np
from jaxtyping import Float

Array = np.ndarray


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
