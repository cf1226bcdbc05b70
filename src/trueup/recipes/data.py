"""The data part of the recipe of reward models."""

from dataclasses import dataclass
from typing import Literal

from trueup.recipes.data_source import PreferenceSource
from trueup.train.prepare import Learn


@dataclass(frozen=True, kw_only=True)
class DataRecipe(PreferenceSource):
    """Where preferences come from and what is learned from them.

    Args:
        learn: What a row of several responses teaches: all pairs, best_versus_worst, or the ranking (listwise).
        too_long: Whether rows beyond that are dropped (and listed) or cut.
        truncation_side: Side that is cut, in training and at every later scoring.
        cache: Folder of tokenised data sets; the run's own by default.
    """

    learn: Learn = "all"
    truncation_side: Literal["left", "right"] = "left"
