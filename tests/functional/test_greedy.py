"""The most likely tokens, however the states are cut."""

import pytest
import torch

from trueup.functional import greedy
from trueup.functional.greedy import most_likely


@pytest.mark.parametrize("entries", [2**24, 40, 1])
def test_it_is_the_argmax_of_all_logits(entries, monkeypatch):
    monkeypatch.setattr(greedy, "_ENTRIES", entries)
    torch.manual_seed(0)
    layer, hidden = torch.nn.Linear(4, 11), torch.randn(23, 4, requires_grad=True)
    found = most_likely(hidden, layer, vocabulary=11)
    assert torch.equal(found, layer(hidden).argmax(-1))
    assert not found.requires_grad
