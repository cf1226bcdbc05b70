"""The shared-prompt forward equals the ordinary one, in outputs and gradients, for every family of causal models."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from trueup.data.branches import join
from trueup.models import branching
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
            join(
                [
                    prompt + rng.integers(1, 97, rng.integers(1, 12)).tolist()
                    for _ in range(rng.integers(1, 4))
                ]
            )
        )
    return rows


def rewards_and_gradients(model, rows, sharing):
    wrapped = RewardModel(model, sharing=sharing)
    model.zero_grad()
    output = wrapped(wrapped.layout(rows))
    (output.reward * torch.linspace(-1, 1, len(output.reward))).sum().backward()
    return output.reward.detach(), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("sharing", ["trees", "mask"])
@pytest.mark.parametrize("name", CONFIGS)
def test_shared_equals_separate(name, sharing):
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
