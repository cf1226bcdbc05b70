"""What another program is given is what a checkpoint holds, and reads as the same model."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig

from tiny_policies import tiny_policy
from trueup.models.live_weights import checkpoint_weights
from trueup.models.policy import PolicyModel


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}])
def test_the_names_and_values_of_a_saved_checkpoint(tmp_path, changes):
    model = tiny_policy(**changes)
    model.core.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    given = dict(checkpoint_weights(model))
    assert given.keys() == saved.keys()
    assert all(torch.equal(given[name], saved[name]) for name in saved)
    assert not any(value.requires_grad for value in given.values())


def test_experts_are_taken_apart_as_in_their_checkpoint(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 20}
    config = MixtralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, num_local_experts=3)
    model = PolicyModel(AutoModelForCausalLM.from_config(config))
    model.core.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    given = dict(checkpoint_weights(model))
    assert given.keys() == saved.keys()
    assert given.keys() != dict(model.core.named_parameters()).keys()
    assert all(torch.equal(given[name], saved[name]) for name in saved)


@pytest.mark.parametrize("whole", [None, ["lm_head"]])
def test_an_adapter_is_worked_in_and_the_model_stays_as_it_is(whole):
    plain = tiny_policy()
    config = LoraConfig(
        r=2, lora_alpha=8, target_modules=["q_proj", "down_proj", "embed_tokens"], modules_to_save=whole
    )
    model = PolicyModel(get_peft_model(copy.deepcopy(plain.core), config))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = dict(checkpoint_weights(model))
    merged = copy.deepcopy(model.pretrained).merge_and_unload()
    expected = dict(merged.named_parameters())
    assert given.keys() == expected.keys() == dict(plain.core.named_parameters()).keys()
    assert all(torch.allclose(given[name], expected[name], atol=1e-12) for name in expected)
    changed = {name for name, value in plain.core.named_parameters() if not torch.equal(given[name], value)}
    assert any("q_proj" in name for name in changed)
    assert ("lm_head.weight" in changed) == bool(whole)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
