import numpy as np
import pytest

from trueup.measure.bootstrap import Resampling, mean
from trueup.measure.watch_metrics import watch_metrics

from .watched_runs import history, point


def test_the_last_point_by_hand() -> None:
    found = watch_metrics(history([point(0), point(10)]))
    assert found["watch/proxy"] == found["watch/gold"] == pytest.approx(20.5)
    assert found["watch/kl"] == pytest.approx(0.1)
    assert found["watch/length"] == 5.0
    assert found["watch/ended"] == 1.0
    assert found["watch/repetition"] == 0.0
    # six texts "word i j at 10" of four pairs: "at 10" six times, "word i" twice each, "j at" three times each
    assert found["watch/distinct_2"] == pytest.approx((1 + 3 + 2 + 6) / 24)
    expected = mean(np.array([10.5, 20.5, 30.5]), resampling=Resampling())
    assert (found["watch/gold_low"], found["watch/gold_high"]) == (expected.low, expected.high)


def test_what_is_not_known_is_left_out() -> None:
    found = watch_metrics(history([point(0, gold=False)]))
    assert not any(name.startswith("watch/gold") for name in found)
    one = watch_metrics(history([point(0, prompts=1, samples=1)]))
    assert "watch/gold" in one
    assert "watch/gold_low" not in one
