"""Builders of scored splits."""

import numpy as np

from trueup.measure.scored import ScoredSplit


def build_split(rewards: list[list[float]], **fields: object) -> ScoredSplit:
    """One row of rewards for each prompt; by default the first response is preferred to each of the others."""
    sizes = [len(row) for row in rewards]
    starts = np.cumsum(sizes, dtype=np.int64) - np.array(sizes, dtype=np.int64)
    pairs = [(start, start + k) for start, size in zip(starts, sizes, strict=True) for k in range(1, size)]
    values: dict[str, object] = {
        "name": "split",
        "reward": np.array([reward for row in rewards for reward in row], dtype=np.float64),
        "prompt": np.repeat(np.arange(len(sizes)), np.array(sizes, dtype=np.int64)),
        "pairs": np.array(pairs, dtype=np.int64).reshape(-1, 2),
        "length": np.ones(sum(sizes)),
    }
    return ScoredSplit(**{**values, **fields})  # type: ignore[arg-type]
