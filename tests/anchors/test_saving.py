"""States on disk: whole, for the anchor, the model and the step they belong to."""

import pytest
import torch

from trueup.anchors.elastic_reset import ElasticReset
from trueup.anchors.ema import ExponentialAverage
from trueup.anchors.saving import load_state, save_state
from trueup.errors import CheckpointError, OutputError, RecipeError
from weight_paths import equal, follow_path, random_walk, some_weights


@pytest.fixture
def saved(tmp_path):
    anchor, start = ElasticReset(decay=0.9, period=4), some_weights(1)
    _, after, state = follow_path(anchor, start, 3, move=random_walk)
    save_state(tmp_path, anchor, state, step=3)
    return tmp_path, anchor, state, after[-1]


def test_what_is_loaded_is_what_was_saved(saved):
    folder, anchor, state, live = saved
    again = load_state(folder, anchor, weights=live, step=3)
    assert equal(again.to_tensors(), state.to_tensors())
    assert sorted(path.name for path in (folder / "anchor").iterdir()) == ["state.json", "state.safetensors"]
    assert [path.name for path in folder.iterdir()] == ["anchor"]


def test_a_second_save_replaces_the_first(saved):
    folder, anchor, state, live = saved
    state, _ = anchor.update(state, random_walk(live, 4), step=4)
    save_state(folder, anchor, state, step=4)
    assert equal(load_state(folder, anchor, weights=live, step=4).to_tensors(), state.to_tensors())


@pytest.mark.parametrize("anchor", [ElasticReset(decay=0.8, period=4), ExponentialAverage(decay=0.9)])
def test_another_anchor_is_refused(saved, anchor):
    with pytest.raises(RecipeError, match="resume with the same anchor"):
        load_state(saved[0], anchor, weights=saved[3], step=3)


def test_another_model_or_step_is_refused(saved):
    folder, anchor, _, live = saved
    with pytest.raises(CheckpointError, match="belongs to step 3, and the run stands at 4"):
        load_state(folder, anchor, weights=live, step=4)
    with pytest.raises(CheckpointError, match=r"does not fit the model: \['b.bias'\]"):
        load_state(folder, anchor, weights={"a.weight": live["a.weight"]}, step=3)
    with pytest.raises(CheckpointError, match=r"\['a.weight'\]"):
        load_state(folder, anchor, weights={**live, "a.weight": torch.zeros(2)}, step=3)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_damage_is_told(saved, name):
    folder, anchor, _, live = saved
    path = folder / "anchor" / name
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(folder, anchor, weights=live, step=3)
    path.unlink()
    with pytest.raises(CheckpointError, match="lacks the anchor's state"):
        load_state(folder, anchor, weights=live, step=3)


def test_a_failure_to_write_leaves_the_earlier_state(saved, monkeypatch):
    folder, anchor, state, live = saved

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trueup.anchors.saving.save_file", full)
    with pytest.raises(OutputError, match="cannot be written"):
        save_state(folder, anchor, state, step=3)
    assert [path.name for path in folder.iterdir()] == ["anchor"]
    assert equal(load_state(folder, anchor, weights=live, step=3).to_tensors(), state.to_tensors())
