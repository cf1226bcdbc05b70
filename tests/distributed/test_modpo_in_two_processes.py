"""A sweep of MODPO is the same in one process and in two, of which the first scores and measures."""

import modpo_worker
import pytest
from safetensors.torch import load_file

from tiny_training import largest_difference

WORKER = modpo_worker
pytestmark = pytest.mark.slow


def test_the_same_policies(alone, together):
    start = load_file(alone / "base-0" / "model.safetensors")
    places = sorted(path.relative_to(alone) for path in (alone / "sweep").rglob("model/model.safetensors"))
    assert len(places) == 2
    for place in places:
        one, two = load_file(alone / place), load_file(together / place)
        assert largest_difference(one, two) < 1e-5
        assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3


def test_only_the_first_scores_and_all_are_told(told):
    whole, first, second = told
    assert first["scored"] == whole["scored"] > 0
    assert second["scored"] == 0
    assert second["front"] == first["front"]
    for point, wanted in zip(first["front"]["points"], whole["front"]["points"], strict=True):
        assert point["kl"]["value"] == pytest.approx(wanted["kl"]["value"], abs=1e-4)
        assert point["rewards"]["pears"]["value"] == pytest.approx(wanted["rewards"]["pears"]["value"], abs=1e-6)
