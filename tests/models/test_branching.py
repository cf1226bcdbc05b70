"""The shared-prompt forward equals the ordinary one, in outputs and gradients, for every family of causal models."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from trueup.data.branches import join
from trueup.models import attention, branching
from trueup.models.reward import RewardModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
GROUPED = TINY | {"num_key_value_heads": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "mistral": GROUPED | {"sliding_window": 11},
    "gemma": GROUPED | {"head_dim": 8},
    "gemma2": GROUPED | {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "gemma3_text": GROUPED | {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "phi3": GROUPED | {"sliding_window": None},
    "gpt2": {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "pad_token_id": 0},
    "gpt_neox": TINY | {"pad_token_id": 0},
}


def tiny(name):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, num_labels=1, **CONFIGS[name])
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def trees(seed=0, count=3):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        prompt = rng.integers(1, 97, rng.integers(1, 14)).tolist()
        rows.append(
            join([prompt + rng.integers(1, 97, rng.integers(1, 12)).tolist() for _ in range(rng.integers(1, 4))])
        )
    return rows


def rewards_and_gradients(model, rows, sharing):
    wrapped = RewardModel(model, sharing=sharing)
    wrapped.trim = sharing != "separate"  # the ordinary computation is the oracle for trimming too
    model.zero_grad()
    output = wrapped(wrapped.layout(rows))
    (output.reward * torch.linspace(-1, 1, len(output.reward))).sum().backward()
    return output.reward.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("sharing", ["trees", "trees in pieces", "mask"])
@pytest.mark.parametrize("name", CONFIGS)
def test_shared_equals_separate(name, sharing, monkeypatch):
    if sharing == "trees in pieces":
        sharing = "trees"
        monkeypatch.setattr(attention, "_CALL_COST", {True: 0, False: 0})
    model, rows = tiny(name), trees()
    if sharing == "mask":
        model.set_attn_implementation("eager" if name == "gemma2" else "sdpa")
        if name == "gemma2":
            pytest.skip("soft-capped attention cannot take a boolean mask in transformers; trees covers it")
    expected, expected_gradient = rewards_and_gradients(tiny(name), rows, "separate")
    found, gradient = rewards_and_gradients(model, rows, sharing)
    assert torch.allclose(found, expected, atol=1e-5)
    assert gradient.keys() == expected_gradient.keys()
    for key, value in expected_gradient.items():
        assert torch.allclose(gradient[key], value, atol=1e-5), key


def test_a_tree_is_split_when_that_saves_enough():
    row = join([list(range(1, 50)) + [60 + k] * 400 for k in range(6)])
    short = join([[1, 2, 3, 4], [1, 2, 5]])
    whole, pieces = attention.plan_trees(branching.packed([short, row]), dtype=torch.float32).blocks
    assert [block.query for block in whole] == [None]
    assert [len(block.keys) for block in pieces] == [1, 2, 2, 2, 2, 2]
    covered = [slot for block in pieces for slot in range(block.query.start, block.query.stop)]
    assert covered == list(range(row.size))


@pytest.mark.parametrize("place", [branching.packed, branching.padded, branching.separate])
def test_layouts_obey_the_mask_rule(place):
    """Every real token sees the earlier tokens of its own sequence, as many as its position says, and itself."""
    rows = trees(seed=3, count=4)
    layout = place(rows)
    seen = branching.visible(layout)[:, 0]
    count = seen.sum(-1)
    assert torch.equal(count[layout.real], layout.position_ids[layout.real] + 1)
    sequences = [sequence for row in rows for sequence in row.sequences()]
    for number, last in enumerate(layout.last.tolist()):
        row, slot = divmod(last, layout.input_ids.shape[1])
        assert layout.input_ids[row][seen[row, slot]].tolist() == sequences[number].tolist()


def test_padding_of_packed_rows_is_rounded_up():
    layout = branching.packed(trees(), multiple=128)
    assert layout.slots % 128 == 0
    assert (layout.tree < 0).sum() == layout.slots - sum(row.size for row in trees())


def test_flex_block_mask_is_the_same_rule():
    """FlexAttention's mask function, evaluated densely, equals the boolean mask."""
    layout = branching.packed(trees(seed=5), multiple=128)
    for window in (None, 6):
        block = attention.block_mask(layout, window=window)
        slots = torch.arange(layout.slots)
        dense = block.mask_mod(torch.tensor(0), torch.tensor(0), slots[:, None], slots[None, :])
        assert torch.equal(dense, branching.visible(layout, window=window)[0, 0])
