"""WARP is the same in one process and in two, of which the first merges and measures."""

import pytest
import warp_worker
from safetensors.torch import load_file

from tiny_training import largest_difference

WORKER = warp_worker
pytestmark = pytest.mark.slow


def test_the_same_merges(alone, together):
    start = load_file(alone / "base-0" / "model.safetensors")
    for eta in ("0.5", "1"):
        place = f"warp/front/eta-{eta}/model.safetensors"
        one, two = load_file(alone / place), load_file(together / place)
        assert largest_difference(one, two) < 1e-5
        assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3


def test_all_are_told_what_the_first_measured(told):
    whole, first, second = told
    assert first == second
    for eta, values in whole.items():
        assert first[eta] == pytest.approx(values, abs=1e-4)
