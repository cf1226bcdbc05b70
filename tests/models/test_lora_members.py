"""Adapters that share one pass equal each adapter alone: values, gradients, and what lies on disk."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification

from tiny_models import CHATML, make_tokenizer, save_base, save_encoder
from tiny_training import random_rows
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError, RecipeError
from trueup.models.checkpoints import load_reward_model, new_reward_model
from trueup.models.lora_checkpoints import load_lora_members, member_folders, save_lora_members
from trueup.models.lora_members import LoraEnsemble, with_lora_members
from trueup.models.reward import RewardModel
from trueup.models.tokenizers import load_tokenizer

ROWS = random_rows(4)
MEMBERS = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def members_on(base, *, layers=1, target="all-linear", dropout=0.0, dtype=torch.float32):
    """As if trained: every trainable weight moved."""
    tokenizer = load_tokenizer(base)
    lora = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=target)
    one = new_reward_model(base, tokenizer=tokenizer, generator=generator(), lora=lora, dtype=dtype)
    model = with_lora_members(one, MEMBERS, layers=layers, generator=generator(1))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator(len(parameter))).to(dtype)
    return model, tokenizer


def write(folder, model, tokenizer):
    form = infer_format((), tokenizer, max_length=64, kind="plain")
    save_lora_members(folder, model, tokenizer=tokenizer, form=form, provenance={"seed": 1})
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(), num_hidden_layers=3)


@pytest.mark.parametrize(
    ("family", "sharing"),
    [
        *((family, "trees") for family in ("llama", "qwen3", "gemma2", "mistral", "phi3", "gpt_neox")),
        *((family, "separate") for family in ("llama", "mistral")),
        ("llama", "mask"),
    ],
)
def test_one_pass_equals_each_member_alone_in_peft(tmp_path, family, sharing):
    base = save_base(tmp_path / "base", make_tokenizer(), family, num_hidden_layers=3)
    model, tokenizer = members_on(base, layers=2, dtype=torch.float64)
    model.settle(sharing)
    together = model.eval()(model.layout(ROWS))
    write(tmp_path / "members", model, tokenizer)
    for number, folder in enumerate(member_folders(tmp_path / "members", MEMBERS)):
        alone = load_reward_model(folder, dtype=torch.float64).model
        assert isinstance(alone.pretrained, PeftModel)
        alone.settle(sharing)
        out = alone(alone.layout(ROWS))
        assert torch.allclose(together.members[number], out.reward, atol=1e-5)
        assert torch.allclose(together.member_hidden[number], out.hidden, atol=1e-5)
    assert torch.allclose(together.reward, together.members.mean(0), atol=1e-6)


@pytest.mark.parametrize("sharing", ["trees", "separate"])
def test_gradients_are_those_of_each_member_s_own_loss(tmp_path, base, sharing):
    """The loss is the mean over members; each one's gradient is nevertheless its own, undivided."""
    model, tokenizer = members_on(base, layers=2, dtype=torch.float64)
    model.settle(sharing)
    model.train()(model.layout(ROWS)).members.square().mean(1).mean().backward()
    gradients = {name: p.grad for name, p in model.core.named_parameters() if p.requires_grad}
    assert all(".up" in name or ".down" in name or name == "score.weight" for name in gradients)
    write(tmp_path, model, tokenizer)
    for number, folder in enumerate(member_folders(tmp_path, MEMBERS)):
        core = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float64)
        core.resize_token_embeddings(len(load_tokenizer(folder)), mean_resizing=False)
        adapted = PeftModel.from_pretrained(core, folder, is_trainable=True, autocast_adapter_dtype=False)
        alone = RewardModel(adapted, sharing=sharing).train()
        alone(alone.layout(ROWS)).reward.square().mean().backward()
        found = {
            name.replace("lora_A.default.weight", "down")
            .replace("lora_B.default.weight", "up")
            .replace("score.modules_to_save.default.weight", "score.weight"): p.grad
            for name, p in alone.core.named_parameters()
            if p.requires_grad
        }
        assert found.keys() == gradients.keys()
        for name, gradient in found.items():
            own = gradients[name][number]
            assert torch.allclose(own, gradient.view(own.shape), atol=1e-5, rtol=1e-4), name


def test_below_the_adapted_layers_the_trunk_is_computed_once_and_without_gradient(base):
    model, _ = members_on(base, layers=1)
    seen = []
    for layer in model.core.model.layers:
        layer.register_forward_hook(lambda _, inputs, out: seen.append((len(out), out.requires_grad)))
    model.train()(model.layout(ROWS))
    assert seen == [(1, False), (1, False), (MEMBERS, True)]


def test_members_begin_at_the_base_with_heads_of_their_own(base):
    tokenizer = load_tokenizer(base)
    lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"])
    one = new_reward_model(base, tokenizer=tokenizer, generator=generator(), lora=lora)
    model = with_lora_members(one, MEMBERS, layers=2, generator=generator(1)).eval()
    plain = new_reward_model(base, tokenizer=tokenizer, generator=generator()).eval()
    hidden = plain(plain.layout(ROWS)).hidden
    out = model(model.layout(ROWS))
    assert torch.allclose(out.members, model.head.weight @ hidden.T, atol=1e-5)
    assert sorted(model.adapted()) == [
        f"model.layers.{i}.{name}" for i in (1, 2) for name in ("mlp.up_proj", "self_attn.q_proj")
    ]
    for module in model.adapted().values():
        bound = module.down.shape[-1] ** -0.5
        assert module.down.detach().abs().max() <= bound
        assert module.down.detach().std() == pytest.approx(bound / 3**0.5, rel=0.15)
        assert not torch.equal(module.down[0], module.down[1])
        assert not module.up.any()


def test_a_folder_of_members_loads_together_and_alone(tmp_path, base):
    model, tokenizer = members_on(base, layers=2)
    before = model.eval()(model.layout(ROWS)).members
    write(tmp_path / "made", model, tokenizer)
    folder = (tmp_path / "made").rename(tmp_path / "moved")
    names = {path.name for path in (folder / "members" / "1").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "trueup.json", "tokenizer.json"} <= names
    side = json.loads((folder / "trueup.json").read_text())
    assert side["ensemble"] == {"size": MEMBERS, "kind": "lora", "layers": 2}
    assert "ensemble" not in json.loads((folder / "members" / "1" / "trueup.json").read_text())
    checkpoint = load_lora_members(folder)
    assert isinstance(checkpoint.model, LoraEnsemble)
    assert torch.equal(checkpoint.model(checkpoint.model.layout(ROWS)).members, before)
    assert checkpoint.provenance["seed"] == 1


def test_damaged_members(tmp_path, base):
    model, tokenizer = members_on(base)
    folder = write(tmp_path, model, tokenizer)
    weights = folder / "members" / "2" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for damage in (whole[:200], b"", (folder / "members" / "0" / "tokenizer.json").read_bytes()):
        weights.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"members/2: the weights cannot be read"):
            load_lora_members(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"members/2: the weights cannot be read"):
        load_lora_members(folder)
    weights.write_bytes(whole)
    side = json.loads((folder / "trueup.json").read_text())
    for broken in ({"size": 3}, {"size": 3, "layers": "x"}):
        (folder / "trueup.json").write_text(json.dumps(side | {"ensemble": broken}))
        with pytest.raises(CheckpointError, match="members cannot be loaded"):
            load_lora_members(folder)


def test_what_cannot_have_members(tmp_path, base):
    with pytest.raises(RecipeError, match="cannot adapt the top 4 layers of a causal model with 3"):
        members_on(base, layers=4)
    with pytest.raises(RecipeError, match=r"lora\.dropout must be 0, got 0\.1"):
        members_on(base, dropout=0.1)
    encoder = save_encoder(tmp_path / "encoder", make_tokenizer(encoder=True), "bert")
    with pytest.raises(RecipeError, match="of a causal model with 0"):
        members_on(encoder)
    with pytest.raises(RecipeError, match="the top 1 layers hold no linear layer"):
        members_on(base, target=["layers.0.self_attn.q_proj"])
    tokenizer = load_tokenizer(base)
    with pytest.raises(RecipeError, match="take a model with one"):
        with_lora_members(
            new_reward_model(base, tokenizer=tokenizer, generator=generator()), 3, layers=1, generator=generator()
        )


def test_bfloat16_bases_keep_float32_members(base):
    model, _ = members_on(base, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters() if p.requires_grad and len(p.shape) == 3} == {torch.float32}
    out = model.eval()(model.layout(ROWS))
    wide, _ = members_on(base)
    assert out.members.dtype == torch.float32
    assert np.corrcoef(out.members[0].detach(), wide.eval()(wide.layout(ROWS)).members[0].detach())[0, 1] > 0.99


def test_chat_models_too(tmp_path):
    """The tokenizer's own tokens are in the base; only the pad token is new."""
    tokenizer = make_tokenizer(extra=("<|im_start|>", "<|im_end|>"), chat_template=CHATML)
    model, _ = members_on(save_base(tmp_path / "base", tokenizer))
    assert model(model.layout(ROWS)).members.shape[0] == MEMBERS
