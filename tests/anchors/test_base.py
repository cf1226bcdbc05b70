"""States turn into tensors and back."""

import torch

from trueup.anchors.base import AnchorState


def test_a_state_turns_into_tensors_and_back():
    state = AnchorState({"start": {"a/b.weight": torch.ones(2)}, "average": {"a/b.weight": torch.zeros(2)}})
    tensors = state.to_tensors()
    assert set(tensors) == {"start/a/b.weight", "average/a/b.weight"}
    again = AnchorState.from_tensors(tensors)
    assert again.copies["start"]["a/b.weight"] is state.copies["start"]["a/b.weight"]
    assert again.copies.keys() == state.copies.keys()
    assert AnchorState.from_tensors(AnchorState().to_tensors()) == AnchorState()
