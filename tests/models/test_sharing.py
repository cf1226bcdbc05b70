"""Which models share prompts, what happens where they cannot, and what is read of each."""

import logging

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from tiny_models import ENCODERS, FAMILIES, SIZES
from trueup.data.branches import join
from trueup.models import attention
from trueup.models.branch_model import check_sharing
from trueup.models.reward import RewardModel, find_head

ROWS = [join([[5, 6, 7, 8, 9], [5, 6, 7, 10]]), join([[11, 12], [13, 14, 15]])]
OTHERS = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "expansion_ratio": 2},
    "falcon": SIZES | {"alibi": True, "new_decoder_architecture": False},
    "jamba": SIZES
    | {"num_key_value_heads": 2, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
    | {"mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False, "num_experts_per_tok": 1},
    "opt": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"word_embed_proj_dim": 32, "dropout": 0.0},
    "phi": SIZES | {"resid_pdrop": 0.0},
    "olmo": SIZES,
    "starcoder2": SIZES | {"num_key_value_heads": 2, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    "stablelm": SIZES | {"num_key_value_heads": 4},
    "gemma3": {"text_config": FAMILIES["gemma3_text"] | {"vocab_size": 97}}
    | {"vision_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}},
}


def build(family):
    torch.manual_seed(0)
    settings = (FAMILIES | ENCODERS | OTHERS)[family]
    if family != "gemma3":
        settings = {"vocab_size": 97, "pad_token_id": 0} | settings
    try:
        config = AutoConfig.for_model(family, num_labels=1, **settings)
        model = AutoModelForSequenceClassification.from_config(config).eval()
    except ValueError as error:
        pytest.skip(f"transformers has no sequence classifier of it: {error}")
    return model


def rewards(model, rows=ROWS):
    with torch.no_grad():
        return model(model.layout(rows)).reward


def ordinary(core, rows=ROWS):
    """Each sequence alone, by transformers; none ends in the pad id."""
    with torch.no_grad():
        sequences = [torch.from_numpy(s.astype(np.int64))[None] for row in rows for s in row.sequences()]
        return torch.cat([core(input_ids=ids).logits[:, 0] for ids in sequences])


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_scores_are_the_ordinary_ones_whatever_way_is_chosen(family):
    core = build(family)
    expected = ordinary(core)
    model = RewardModel(core)
    check_sharing(model, ROWS)
    assert torch.allclose(rewards(model), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("jamba", "recurrent"), ("bloom", "mask"), ("mpt", "mask"), ("falcon", "position"), ("bert", "causal")],
)
def test_models_that_cannot_share_say_why_in_one_line(family, reason):
    model = RewardModel(build(family))
    assert model.sharing == "separate"
    assert reason in model.describe_sharing()
    assert "\n" not in model.describe_sharing()


def test_unknown_kinds_of_layers_are_not_shared():
    core = build("qwen2")
    core.config.layer_types = ["full_attention", "linear_attention"]
    model = RewardModel(core)
    assert model.sharing == "separate"
    assert "linear_attention" in model.describe_sharing()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("how", ["wrong", "fails"])
def test_sharing_that_does_not_work_falls_back(family, how, monkeypatch, caplog):
    """One log line, and then the model's own attention: Gemma 2's soft cap must not get lost with it."""
    core = build(family)
    expected = ordinary(core)
    model = RewardModel(core)
    assert model.sharing == "trees"

    def fail(*_, **__):
        raise NotImplementedError("no such\nkernel")

    if how == "fails":
        monkeypatch.setattr(attention, "plan_trees", fail)
    else:
        monkeypatch.setattr(RewardModel, "_mask_arguments", _without_mask(RewardModel._mask_arguments))
    with caplog.at_level(logging.WARNING, logger="trueup"):
        assert check_sharing(model, ROWS) > 1e-3
    assert model.sharing == "separate"
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert ("differ by" if how == "wrong" else "fails (NotImplementedError: no such)") in record.getMessage()
    assert torch.allclose(rewards(model), expected, atol=1e-5)


def _without_mask(real):
    """Every token sees all earlier ones of the packed row, other branches and rows included."""

    def arguments(self, layout, **options):
        if self.sharing != "trees":
            return real(self, layout, **options)
        return {"position_ids": layout.position_ids, "attention_mask": torch.ones_like(layout.input_ids)}

    return arguments


def test_a_check_that_passes_changes_nothing():
    model = RewardModel(build("llama")).train()
    assert check_sharing(model, ROWS) < 1e-4
    assert model.sharing == "trees"
    assert model.trim
    assert model.training
    assert model.config._attn_implementation == attention.NAME
    assert check_sharing(model, []) == 0.0


@pytest.mark.parametrize("family", [*FAMILIES, "opt", "phi", "olmo", "starcoder2", "stablelm"])
def test_the_norm_before_the_final_normalisation(family):
    """Against a hook in the ordinary computation, row by row; and the head is the classifier's score."""
    core = build(family)
    names = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm", "phi": "model.final_layernorm"}
    norm = core.get_submodule(names.get(family, "model.decoder.final_layer_norm" if family == "opt" else "model.norm"))
    inputs = []
    handle = norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0, -1]))
    ordinary(core)
    handle.remove()
    expected = torch.stack(inputs).norm(dim=-1)
    model = RewardModel(core)
    assert find_head(core) is core.score
    with torch.no_grad():
        found = model(model.layout(ROWS), before_norm=True)
    assert torch.allclose(found.before_norm, expected, rtol=1e-4)
    assert torch.allclose(found.hidden @ core.score.weight[0], found.reward, atol=1e-6)
    assert model(model.layout(ROWS)).before_norm is None


def test_a_classifier_without_one_output_has_no_head():
    two = AutoConfig.for_model("llama", num_labels=2, vocab_size=97, **FAMILIES["llama"])
    with pytest.raises(TypeError, match="no head with a single output"):
        find_head(AutoModelForSequenceClassification.from_config(two))


def test_a_bidirectional_model_with_a_score_on_every_token_is_read_by_mask():
    """Such a model pools by pad id; a real token with that id must not move the place where the reward is read."""
    core = build("llama")
    core.config.is_causal = False
    model = RewardModel(core)
    assert model.sharing == "separate"
    assert not model.causal
    rows = [join([[5, 6, 7, 0], [5, 6, 8]]), join([[9, 10, 11, 12, 13, 14]])]
    with torch.no_grad():
        alone = [core.score(core.model(torch.tensor([s.tolist()]))[0])[0, -1, 0] for r in rows for s in r.sequences()]
    assert torch.allclose(rewards(model, rows), torch.stack(alone), atol=1e-5)
