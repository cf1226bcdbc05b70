"""What a policy is held to: references, averages of weights, and how weights are merged."""

from collections.abc import Mapping

from trueup.anchors.base import Anchor, AnchorState
from trueup.anchors.elastic_reset import ElasticReset, ResetToAverage, ResetToInit
from trueup.anchors.ema import ExponentialAverage
from trueup.anchors.frozen import Frozen
from trueup.anchors.soup import Soup

ANCHORS: Mapping[str, type[Anchor]] = {
    "frozen": Frozen,
    "soup": Soup,
    "ema": ExponentialAverage,
    "elastic_reset": ElasticReset,
    "reset_to_average": ResetToAverage,
    "reset_to_init": ResetToInit,
}

__all__ = [
    "ANCHORS",
    "Anchor",
    "AnchorState",
    "ElasticReset",
    "ExponentialAverage",
    "Frozen",
    "ResetToAverage",
    "ResetToInit",
    "Soup",
]
