"""Every entry of the table of anchors keeps the contract of anchors."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from tiny_models import make_tokenizer, save_base
from trueup.anchors import ANCHORS, Anchor, Soup
from trueup.anchors.saving import load_state, save_state
from trueup.anchors.weights import live_weights
from trueup.models.policy_checkpoints import load_policy_checkpoint
from weight_paths import copied, equal, follow_path, places, random_walk


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("policy"), make_tokenizer(pad="<pad>"), num_hidden_layers=1)


@pytest.fixture(params=ANCHORS)
def anchor(request, folder):
    kind = ANCHORS[request.param]
    if kind is Soup:
        return Soup(other=folder, alpha=0.3)
    short = {"period": 3, "offset": 2, "decay": 0.7}
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in short.items() if name in names})


@pytest.fixture
def start(folder):
    weights = live_weights(load_policy_checkpoint(folder).model)
    return {name: tensor + 0.01 for name, tensor in weights.items()}


def walk(weights, step):
    generator = torch.Generator().manual_seed(step)
    return {name: t + 0.01 * torch.randn(t.shape, generator=generator) for name, t in weights.items()}


def test_is_a_frozen_keyword_only_record_of_plain_values(anchor):
    assert isinstance(anchor, Anchor)
    assert all(field.kw_only for field in dataclasses.fields(anchor))
    assert all(isinstance(value, (int, float, str, Path, type(None))) for value in vars(anchor).values())
    assert dataclasses.replace(anchor) == anchor
    if dataclasses.fields(anchor):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(anchor, dataclasses.fields(anchor)[0].name, 1)


def test_keeps_copies_of_its_own_and_leaves_the_live_model_alone(anchor, start):
    live = copied(start)
    state = anchor.init(live)
    assert equal(live, start)
    for step in range(1, 4):
        anchors_own = state.to_tensors()
        assert len(places(anchors_own)) == len(anchors_own)
        assert not places(anchors_own) & places(live)
        assert all(not tensor.requires_grad for tensor in anchors_own.values())
        state, jump = anchor.update(state, live, step=step)
        assert equal(live, start)
        for weights in (jump, anchor.reference(state)):
            assert weights is None or not places(weights) & places(live)


def test_resuming_in_the_middle_is_bit_equal(anchor, start, tmp_path):
    _, whole, last = follow_path(anchor, start, 9, move=walk)
    _, first, state = follow_path(anchor, start, 4, move=walk)
    save_state(tmp_path, anchor, state, step=4)
    live = first[-1]
    state = load_state(tmp_path, anchor, weights=live, step=4)
    for step in range(5, 10):
        live = walk(live, step)
        state, jump = anchor.update(state, live, step=step)
        live = copied(jump) if jump is not None else live
        assert equal(live, whole[step - 1])
    assert equal(state.to_tensors(), last.to_tensors())
    record = json.loads((tmp_path / "anchor" / "state.json").read_text())
    assert record["anchor"] == type(anchor).__name__
    assert record["step"] == 4


def test_has_a_row_in_the_documentation(anchor):
    page = Path(__file__).resolve().parents[2] / "docs" / "anchors.md"
    (name,) = [name for name, kind in ANCHORS.items() if kind is type(anchor)]
    assert re.search(rf"^\| `{name}` \| `{type(anchor).__name__}` \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_walk_is_one():
    """Jumps and averages would be nothing on a path that stands still."""
    start = {"a.weight": torch.zeros(3, 4), "b.bias": torch.zeros(5)}
    assert not equal(random_walk(start, 1), start)
