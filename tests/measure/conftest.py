"""Fixtures of the measure floor."""

from collections.abc import Callable

import pytest

from measure.builders import build_split
from trueup.measure.bootstrap import Resampling
from trueup.measure.scored import ScoredSplit


@pytest.fixture
def make_split() -> Callable[..., ScoredSplit]:
    return build_split


@pytest.fixture
def few() -> Resampling:
    """Enough resamples for tests that do not look at intervals closely."""
    return Resampling(resamples=100)
