"""What is watched of a live model, and that writing and swapping leave parameters the objects they were."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tiny_policies import VOCABULARY, tiny_policy
from trueup.anchors.elastic_reset import ResetToInit
from trueup.anchors.weights import copy_of, follow, live_weights, swapped, unwrap, watched, write
from trueup.errors import CheckpointError, RecipeError
from weight_paths import equal, places

LORA = LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
IDS = torch.arange(8, 20)[None] % VOCABULARY


class Counting(nn.Module):
    """A module with a buffer that checkpoints hold, and one that they do not."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.value_head = nn.Linear(3, 1)
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("scratch", torch.ones(2), persistent=False)


def adapted():
    """A policy with an adapter whose factors are both at random."""
    model = get_peft_model(tiny_policy().core, LORA)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 4
    return model


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_trained_parameters_and_saved_buffers_are_watched_but_no_value_head():
    model = Counting()
    model.linear.bias.requires_grad_(False)
    assert set(watched(model)) == {"linear.weight", "count"}
    assert watched(model)["linear.weight"] is model.linear.weight


def test_names_are_those_of_the_transformers_model_whatever_wraps_it():
    policy = tiny_policy()
    names = set(live_weights(policy))
    assert names == {name for name, _ in policy.core.named_parameters()}
    compiled = torch.compile(policy.core)
    assert unwrap(compiled) is policy.core
    assert set(live_weights(compiled)) == names
    assert set(live_weights(nn.DataParallel(policy))) == names


def test_of_an_adapter_only_its_own_tensors_are_watched():
    model = adapted()
    model.get_base_model().register_buffer("count", torch.tensor(7))
    names = set(live_weights(model))
    assert len(names) == 2 * 2 * 2  # layers, modules, factors
    assert all(".lora_A.default." in name or ".lora_B.default." in name for name in names)


def test_tied_weights_are_watched_once_and_stay_tied():
    core = tiny_policy(tie_word_embeddings=True).core
    weights = copy_of(live_weights(core))
    assert "lm_head.weight" not in weights
    write(core, {name: tensor + 1 for name, tensor in weights.items()})
    assert core.lm_head.weight is core.model.embed_tokens.weight
    assert torch.equal(core.lm_head.weight, weights["model.embed_tokens.weight"] + 1)


def test_writing_keeps_parameters_and_the_optimizer_s_state():
    core = tiny_policy().core
    optimizer = torch.optim.AdamW(core.parameters(), lr=1e-3)
    core(IDS, labels=IDS).loss.backward()
    optimizer.step()
    parameters = dict(core.named_parameters())
    moments = {name: optimizer.state[parameter] for name, parameter in parameters.items()}
    kept = {name: {key: value.clone() for key, value in own.items()} for name, own in moments.items()}
    storages = places(parameters)
    target = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}
    write(core, target)
    assert equal(live_weights(core), target)
    assert places(dict(core.named_parameters())) == storages
    for name, parameter in core.named_parameters():
        assert parameter is parameters[name]
        assert optimizer.state[parameter] is moments[name]
        assert equal(moments[name], kept[name])
    assert not places(target) & storages


def test_writing_casts_to_the_model_s_type():
    core = tiny_policy(dtype=torch.bfloat16).core
    weights = copy_of(live_weights(core))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    write(core, {name: tensor + 1 / 3 for name, tensor in weights.items()})
    for name, tensor in live_weights(core).items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, (weights[name] + 1 / 3).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_swapping_computes_with_the_others_and_gives_back_bit_for_bit(dtype):
    """The other weights are float64; where the model is too, nothing is copied."""
    core, other = tiny_policy(dtype=dtype).core, tiny_policy().core
    for parameter in other.parameters():
        parameter.data.mul_(1.5)
    weights = live_weights(other)
    before, parameters, storages = copy_of(live_weights(core)), list(core.parameters()), places(live_weights(core))
    with swapped(core, weights):
        assert torch.is_grad_enabled() is False
        inside = core(IDS).logits
        assert bool(places(live_weights(core)) & places(weights)) == (dtype == torch.float64)
    assert torch.allclose(inside.double(), logits(other), atol=1e-3 if dtype == torch.float32 else 0, rtol=0)
    assert torch.is_grad_enabled()
    assert equal(copy_of(live_weights(core)), before)
    assert places(live_weights(core)) == storages
    assert all(one is two for one, two in zip(core.parameters(), parameters, strict=True))
    assert not torch.allclose(logits(core).double(), inside.double())


def test_swapping_between_forward_and_backward_changes_no_gradient():
    core = tiny_policy().core
    core(IDS, labels=IDS).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in core.named_parameters()}
    core.zero_grad()
    loss = core(IDS, labels=IDS).loss
    with swapped(core, {name: tensor * 2 for name, tensor in live_weights(core).items()}):
        core(IDS)
    loss.backward()
    assert equal({name: parameter.grad for name, parameter in core.named_parameters()}, expected)


def test_swapping_gives_back_after_an_error():
    core = tiny_policy().core
    before = copy_of(live_weights(core))
    with pytest.raises(ZeroDivisionError), swapped(core, {n: t + 1 for n, t in before.items()}):
        _ = 1 / 0
    assert equal(live_weights(core), before)


def test_resetting_an_adapter_to_its_start_gives_the_base_back():
    """B = 0 at the start of LoRA."""
    base = logits(tiny_policy().core)
    model = get_peft_model(tiny_policy().core, LORA)
    anchor = ResetToInit(period=1)
    state = anchor.init(live_weights(model))
    write(model, {name: tensor + 0.1 for name, tensor in live_weights(model).items()})
    assert not torch.allclose(logits(model), base)
    _, jump = anchor.update(state, live_weights(model), step=1)
    write(model, jump)
    assert torch.equal(logits(model), base)


def test_averaging_the_factors_is_not_averaging_their_product():
    """From B = 0 and a common A halfway is half the product; from another A it is not."""
    model = adapted()
    end = live_weights(model)
    module = model.base_model.model.model.layers[0].self_attn.q_proj
    product = module.get_delta_weight("default").detach().clone()
    for common in (True, False):
        average = {
            name: torch.zeros_like(t) if "lora_B" in name else t.clone() if common else -t for name, t in end.items()
        }
        start_product = torch.zeros_like(product)
        follow(average, end, decay=0.5)
        with swapped(model, average):
            halfway = module.get_delta_weight("default").detach()
        assert torch.allclose(halfway, (start_product + product) / 2) == common


def test_what_does_not_fit_is_named():
    model = Counting()
    with pytest.raises(CheckpointError, match=r"no weight `other\.weight`"):
        write(model, {"other.weight": torch.zeros(1)})
    with (
        pytest.raises(CheckpointError, match=r"`linear\.weight`.*\(2, 3\) in the model, \(4, 3\)"),
        swapped(model, {"linear.weight": torch.zeros(4, 3)}),
    ):
        pass


def test_a_model_that_is_not_trained_or_not_whole_is_refused():
    with pytest.raises(RecipeError, match="no parameter of this one requires a gradient"):
        watched(Counting().requires_grad_(False))
    model = Counting()
    model.linear.weight.ds_id = 0  # what DeepSpeed marks the shards of ZeRO-3 with
    with pytest.raises(RecipeError, match="hold shards"):
        watched(model)
