"""The soup as reference: the state-dict test, its limits, and what it is for tabular policies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from tiny_models import make_tokenizer, save_base
from tiny_policies import VOCABULARY
from trueup.anchors.soup import Soup, soup
from trueup.anchors.weights import live_weights, swapped
from trueup.errors import CheckpointError, RecipeError
from trueup.models.policy_checkpoints import load_policy_checkpoint
from weight_paths import close, equal, places, some_weights

IDS = torch.arange(8, 20)[None] % VOCABULARY


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders of two models that differ everywhere."""
    tokenizer, folders = make_tokenizer(pad="<pad>"), []
    for number in range(2):
        folder = save_base(tmp_path_factory.mktemp("member"), tokenizer, num_hidden_layers=1)
        model = load_policy_checkpoint(folder).model.core
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
        folders.append(folder)
    return folders


def weights_of(folder):
    return live_weights(load_policy_checkpoint(folder).model)


def log_probabilities(model):
    with torch.no_grad():
        return model(IDS).logits.double().log_softmax(-1)


@given(alpha=st.floats(-1, 2))
def test_every_tensor_is_the_weighted_sum(alpha):
    first, second = some_weights(1), some_weights(2)
    assert close(soup(first, second, alpha=alpha), {n: alpha * first[n] + (1 - alpha) * second[n] for n in first})


def test_its_ends_are_its_members():
    first, second = some_weights(1, torch.float32), some_weights(2, torch.float32)
    assert equal(soup(first, second, alpha=1.0), first)
    assert equal(soup(first, second, alpha=0.0), second)
    assert equal(soup(first, first, alpha=0.3), first)
    assert not places(soup(first, second, alpha=1.0)) & (places(first) | places(second))


def test_sums_are_wider_than_the_members():
    """256 + 1 is not a bfloat16: summing there and halving gives 128, in float32 it gives 128.5, rounded once."""
    first = {"w": torch.tensor([256.0, 3.0], dtype=torch.bfloat16)}
    second = {"w": torch.tensor([1.0, 5.0], dtype=torch.bfloat16)}
    mixed = soup(first, second, alpha=0.5)["w"]
    assert mixed.dtype == torch.bfloat16
    assert mixed.tolist() == [128.0, 4.0]
    thirds = soup({"w": first["w"]}, second, alpha=1 / 3)["w"]
    assert thirds.tolist() == torch.tensor([256 / 3 + 2 / 3, 1 + 10 / 3]).bfloat16().tolist()


def test_members_of_another_kind_are_refused():
    first = {"w": torch.zeros(2), "n": torch.tensor([1, 2])}
    with pytest.raises(CheckpointError, match="no weight `n`"):
        soup(first, {"w": torch.zeros(2)}, alpha=0.5)
    with pytest.raises(CheckpointError, match=r"`w`: .*\(3,\)"):
        soup(first, {"w": torch.zeros(3), "n": first["n"]}, alpha=0.5)
    with pytest.raises(CheckpointError, match=r"`n`: .*differ"):
        soup(first, {"w": torch.zeros(2), "n": first["n"] + 1}, alpha=0.5)
    assert soup(first, first, alpha=0.5)["n"].tolist() == [1, 2]


@given(alpha=st.floats(0, 1))
def test_of_tabular_policies_it_is_the_geometric_mixture(alpha):
    one, two = some_weights(1)["a.weight"], some_weights(2)["a.weight"]
    mixed = soup({"logits": one}, {"logits": two}, alpha=alpha)["logits"].softmax(-1)
    product = one.softmax(-1) ** alpha * two.softmax(-1) ** (1 - alpha)
    assert torch.allclose(mixed, product / product.sum(-1, keepdim=True), atol=1e-12)


def test_the_best_policy_held_to_it_is_the_tilted_mixture():
    """Ascent on E[r] - beta KL(pi || soup) ends at pi_1^alpha pi_2^(1-alpha) exp(r / beta), normalised."""
    alpha, beta = 0.3, 0.5
    one, two, reward = some_weights(1)["b.bias"], some_weights(2)["b.bias"], some_weights(3)["b.bias"]
    reference = soup({"logits": one}, {"logits": two}, alpha=alpha)["logits"].log_softmax(-1)
    logits = one.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def loss():
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        value = -(logp.exp() * (reward - beta * (logp - reference))).sum()
        value.backward()
        return value

    optimizer.step(loss)
    tilted = one.softmax(-1) ** alpha * two.softmax(-1) ** (1 - alpha) * (reward / beta).exp()
    assert torch.allclose(logits.softmax(-1), tilted / tilted.sum(), atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_reference_is_the_soup_of_the_policy_and_the_model_on_disk(two, alpha):
    first, second = map(weights_of, two)
    anchor = Soup(other=str(two[1]), alpha=alpha)
    state = anchor.init(first)
    reference = anchor.reference(state)
    assert close(reference, {n: alpha * first[n] + (1 - alpha) * second[n] for n in first}, 1e-6)
    assert {n: t.dtype for n, t in reference.items()} == {n: t.dtype for n, t in first.items()}
    moved, jump = anchor.update(state, second, step=1)
    assert moved is state
    assert jump is None


def test_the_kl_is_not_zero_at_the_start(two):
    """As the policy starts at one member: zero would mean it was started from the soup."""
    model = load_policy_checkpoint(two[0]).model.core
    anchor = Soup(other=two[1])
    policy = log_probabilities(model)
    with swapped(model, anchor.reference(anchor.init(live_weights(model)))):
        reference = log_probabilities(model)
    kl = (policy.exp() * (policy - reference)).sum(-1)
    assert bool((kl > 1e-3).all())
    same = Soup(other=two[0])
    assert equal(same.reference(same.init(live_weights(model))), live_weights(model))


def test_a_member_with_an_adapter_is_merged_first(two, tmp_path):
    model = load_policy_checkpoint(two[1])
    adapted = get_peft_model(model.model.core, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(two[1])
    adapted.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    change = adapted.base_model.model.model.layers[0].self_attn.q_proj.get_delta_weight("default").detach()
    anchor, first = Soup(other=tmp_path, alpha=0.5), weights_of(two[0])
    reference = anchor.reference(anchor.init(first))
    expected = weights_of(two[1])
    expected["model.layers.0.self_attn.q_proj.weight"] = expected["model.layers.0.self_attn.q_proj.weight"] + change
    assert change.abs().max() > 1e-3
    assert close(reference, {n: (first[n] + expected[n]) / 2 for n in first}, 1e-6)


def test_what_cannot_be_averaged_is_refused(two, tmp_path):
    first = weights_of(two[0])
    with pytest.raises(RecipeError, match="alpha must be finite"):
        Soup(other="x", alpha=float("inf"))
    with pytest.raises(CheckpointError, match="nowhere"):
        Soup(other=tmp_path / "nowhere").init(first)
    model = get_peft_model(load_policy_checkpoint(two[0]).model.core, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(RecipeError, match="make a whole model of the adapter"):
        Soup(other=two[1]).init(live_weights(model))
    other = save_base(tmp_path / "wider", make_tokenizer(pad="<pad>"), num_hidden_layers=1, intermediate_size=64)
    with pytest.raises(CheckpointError, match=r"gate_proj.*\(64, 32\)"):
        Soup(other=other).init(first)
