"""A policy's log-probabilities by the shared forward are those of the plain model."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_models import FAMILIES, make_tokenizer, save_base
from tiny_policies import plain_logprobs, reply_rows, tiny_policy
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError
from trueup.functional import logprobs
from trueup.functional.logprobs import token_logprobs
from trueup.models.branch_model import check_sharing
from trueup.models.branching import targets_of
from trueup.models.policy_checkpoints import load_policy_checkpoint, new_policy, save_policy
from trueup.models.tokenizers import load_tokenizer

ROWS = reply_rows(6)


@pytest.mark.parametrize("sharing", ["trees", "mask", "separate"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_logprobs_are_those_of_the_plain_model(family: str, sharing: str) -> None:
    if family == "gemma2" and sharing != "trees":
        pytest.skip("soft-capped attention cannot take a boolean mask in transformers; trees covers it")
    policy = tiny_policy(family)
    policy.settle(sharing)
    with torch.no_grad():
        found = policy(policy.layout(ROWS))
        assert torch.allclose(found.logprob, plain_logprobs(policy, ROWS), atol=1e-9)
    lengths = [n for row in ROWS for n in row.branch_lengths]
    assert torch.equal(found.branch, torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)))


def test_gradients_are_those_of_the_plain_model() -> None:
    policy = tiny_policy()
    weight = torch.randn(sum(sum(row.branch_lengths) for row in ROWS), dtype=torch.float64)
    grads = []
    for values in (policy(policy.layout(ROWS)).logprob, plain_logprobs(policy, ROWS)):
        policy.zero_grad()
        (values * weight).sum().backward()
        grads.append({name: p.grad.clone() for name, p in policy.named_parameters()})
    assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-5, rtol=1e-5) for name in grads[0])


def test_chunks_of_logits_change_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, dtype=torch.float64, requires_grad=True)
    layer = torch.nn.Linear(8, 50).double()
    targets = torch.randint(50, (23,))
    results = []
    for entries in (10**6, 50 * 4):
        monkeypatch.setattr(logprobs, "_ENTRIES", entries)
        hidden.grad = layer.weight.grad = None
        values = token_logprobs(hidden, targets, layer, vocabulary=50)
        values.square().sum().backward()
        results.append((values.detach(), hidden.grad.clone(), layer.weight.grad.clone()))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*results, strict=True))
    expected = layer(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    assert torch.allclose(results[0][0], expected, atol=1e-12)


def test_a_reply_without_prompt_is_refused() -> None:
    row = reply_rows(1)[0]
    bare = replace(row, tokens=row.tokens[row.prompt_length :], prompt_length=0)
    policy = tiny_policy()
    with pytest.raises(ValueError, match="at least one token of prompt"):
        targets_of(policy.layout([bare]))


def test_a_wrong_short_cut_is_found_out() -> None:
    policy = tiny_policy("llama")
    policy.logits = lambda hidden: policy.core.get_output_embeddings()(hidden) * 1.5
    with torch.no_grad():
        assert check_sharing(policy, ROWS[:2]) > 1e-3
    assert policy.sharing == "separate"


@pytest.mark.parametrize("lora", [False, True])
def test_a_saved_policy_is_the_same_in_plain_transformers(tmp_path, lora: bool) -> None:
    from peft import AutoPeftModelForCausalLM, LoraConfig

    base = save_base(tmp_path / "base", make_tokenizer(bos="<s>", pad="<pad>"))
    tokenizer = load_tokenizer(base)
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False) if lora else None
    policy = new_policy(base, tokenizer=tokenizer, lora=config)
    form = infer_format((), tokenizer, max_length=64)
    save_policy(tmp_path / "saved", policy, tokenizer=tokenizer, form=form, provenance={"seed": 1})
    loaded = load_policy_checkpoint(tmp_path / "saved")
    cls = AutoPeftModelForCausalLM if lora else AutoModelForCausalLM
    plain = cls.from_pretrained(tmp_path / "saved").eval()
    ids = torch.randint(8, 90, (1, 12))
    with torch.no_grad():
        expected = plain(ids).logits
        assert torch.allclose(loaded.model.core(ids).logits, expected, atol=1e-6)
    assert loaded.form == form
    assert loaded.provenance["seed"] == 1


def test_what_is_no_causal_model_is_refused(tmp_path) -> None:
    from tiny_models import save_classifier

    tokenizer = make_tokenizer(pad="<pad>")
    classifier = save_classifier(tmp_path / "classifier", tokenizer)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        new_policy(classifier, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_policy_checkpoint(tmp_path / "nowhere")
