"""Responses that are read partly as the policy would have said them: against plain models, one sequence at a time."""

from dataclasses import replace

import pytest
import torch

from tiny_models import FAMILIES
from tiny_policies import reply_rows, tiny_policy
from trueup.errors import RecipeError
from trueup.functional.greedy import most_likely
from trueup.models import policy as policy_module
from trueup.models.branching import targets_of
from trueup.models.mixing import mixed_inputs, shared_mix
from trueup.objectives import IFT, IFTPaper, NegativeLogLikelihood
from trueup.types import PolicyBatch

ROWS = reply_rows(4, seed=2, longest=8)


def by_hand(policy, rows, mix):
    """Two passes over each sequence: the greedy tokens, then the mixed embeddings, position by position."""
    config = policy.core.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    table, found = policy.core.get_input_embeddings(), []
    for row in rows:
        for sequence in row.sequences():
            ids = torch.from_numpy(sequence.astype("int64"))
            with torch.no_grad():
                greedy = policy.core(ids[None]).logits[0].argmax(-1)
                read = [
                    table(ids[i]) if i < row.prompt_length else (1 - mix) * table(ids[i]) + mix * table(greedy[i - 1])
                    for i in range(len(ids))
                ]
            logits = policy.core(inputs_embeds=torch.stack(read)[None]).logits[0].log_softmax(-1)
            found.append(logits[row.prompt_length - 1 : -1].gather(-1, ids[row.prompt_length :, None])[:, 0])
    config._attn_implementation = before
    return torch.cat(found)


CASES = [(family, "trees") for family in sorted(FAMILIES)]
CASES += [(family, sharing) for family in ("llama", "gpt2", "gemma3_text") for sharing in ("mask", "separate")]


@pytest.mark.parametrize(("family", "sharing"), CASES)
def test_logprobs_are_those_of_embeddings_mixed_by_hand(family, sharing):
    policy = tiny_policy(family, sharing=sharing)
    policy.settle(sharing)
    with torch.no_grad():
        found = policy(policy.layout(ROWS), mix=0.3).logprob
        assert torch.allclose(found, by_hand(policy, ROWS, 0.3), atol=1e-9)
        assert (found - policy(policy.layout(ROWS)).logprob).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_nothing_is_learned_through_what_is_read(tied):
    """A table of its own stays as it is; one that is the output layer, too, is learned as such."""
    policy = tiny_policy("gpt2", tie_word_embeddings=tied)
    weight = torch.linspace(-1, 1, sum(sum(row.branch_lengths) for row in ROWS), dtype=torch.float64)
    grads = []
    for values in (policy(policy.layout(ROWS), mix=0.3).logprob, by_hand(policy, ROWS, 0.3)):
        policy.zero_grad()
        (values * weight).sum().backward()
        grads.append(
            {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in policy.named_parameters()}
        )
    assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-9) for name in grads[0])
    table = policy.core.get_input_embeddings().weight
    moved = next(grads[0][name] for name, p in policy.named_parameters() if p is table)
    assert bool((moved != 0).any()) == tied


@pytest.mark.parametrize("sharing", ["trees", "mask", "separate"])
def test_no_mix_is_the_ordinary_pass_bit_for_bit(sharing):
    policy = tiny_policy("llama")
    policy.settle(sharing)
    results = []
    for options in ({}, {"mix": 0.0}):
        policy.zero_grad()
        found = policy(policy.layout(ROWS), **options).logprob
        found.sum().backward()
        results.append((found.detach(), *(p.grad.clone() for p in policy.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("mix", [0.2, 0.7, 1.0])
def test_a_policy_that_predicts_every_token_right_reads_them_as_they_are(mix, monkeypatch):
    policy = tiny_policy("gpt2")
    layout = policy.layout(ROWS)
    right = layout.input_ids.flatten()[targets_of(layout)[1]]
    monkeypatch.setattr(policy_module, "most_likely", lambda *_, **__: right)
    with torch.no_grad():
        assert torch.equal(policy(layout, mix=mix).logprob, policy(layout).logprob)


def test_entirely_mixed_only_predictions_are_seen():
    """Other tokens in a response change nothing where the predictions do not change."""
    policy = tiny_policy("gpt2")
    layout = policy.layout(ROWS[:1])
    _, target, _ = targets_of(layout)
    fixed = torch.full_like(target, 9)
    table = policy.core.get_input_embeddings()
    other = layout.input_ids.clone()
    other.view(-1)[target] = 50
    inputs = [mixed_inputs(table, ids, target, fixed, mix=1.0) for ids in (layout.input_ids, other)]
    assert torch.equal(*inputs)
    assert torch.equal(inputs[0].flatten(0, 1)[target], table(fixed))


@pytest.mark.parametrize("sharing", ["trees", "mask", "separate"])
def test_prompts_are_read_as_they_are(sharing):
    policy = tiny_policy("llama")
    policy.settle(sharing)
    layout = policy.layout(ROWS)
    _, target, _ = targets_of(layout)
    table = policy.core.get_input_embeddings()
    inputs = mixed_inputs(table, layout.input_ids, target, torch.full_like(target, 9), mix=0.5).flatten(0, 1)
    prompt = layout.branch.flatten() <= 0
    assert torch.equal(inputs[prompt], table(layout.input_ids.flatten()[prompt]))
    assert (inputs[~prompt] != table(layout.input_ids.flatten()[~prompt])).any(-1).all()


@pytest.mark.parametrize("place", range(4))
def test_no_token_looks_ahead(place):
    """Another token in a response changes neither what comes before it, nor other responses."""
    policy, row = _LLAMA, ROWS[0]
    length = row.branch_lengths[0]
    place = place % length
    tokens = row.tokens.copy()
    tokens[row.prompt_length + place] = 8 + (tokens[row.prompt_length + place] - 7) % 80
    with torch.no_grad():
        before, after = (policy(policy.layout([r]), mix=0.5).logprob for r in (row, replace(row, tokens=tokens)))
    same = (before - after).abs() < 1e-12
    assert same[:place].all()
    assert same[length:].all()
    assert not same[place:length].any()


_LLAMA = tiny_policy("llama")


def ift_loss(policy, term, mix):
    out = policy(policy.layout(ROWS), mix=mix)
    count = int(out.branch.max()) + 1
    return term(PolicyBatch(logprob=out.logprob, branch=out.branch, prompt=torch.arange(count)), {}).values.mean()


@pytest.mark.parametrize("detach", [False, True])
def test_the_loss_of_a_small_network_has_the_gradient_of_finite_differences(detach):
    """Along a random direction in all weights but the input embeddings, through which nothing is learned."""
    policy, term = tiny_policy("gpt2", tie_word_embeddings=False), IFT(gamma=0.8, detach=detach)
    table = policy.core.get_input_embeddings().weight
    weights = [p for p in policy.parameters() if p is not table]
    slopes = torch.autograd.grad(ift_loss(policy, term, 0.2), weights)
    generator = torch.Generator().manual_seed(0)
    way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in weights]
    exact = sum((slope * step).sum() for slope, step in zip(slopes, way, strict=True)).item()
    found = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, step in zip(weights, way, strict=True):
                p.add_(sign * 1e-6 * step)
            found.append(ift_loss(policy, term, 0.2).item())
            for p, step in zip(weights, way, strict=True):
                p.sub_(sign * 1e-6 * step)
    numeric = (found[0] - found[1]) / 2e-6
    # Weights that are left out of the gradient still move with the network.
    assert (exact == pytest.approx(numeric, rel=1e-4)) == (not detach)


def test_an_adapter_is_trained_under_a_mix():
    from peft import LoraConfig, get_peft_model

    core = tiny_policy("llama").core
    adapted = get_peft_model(core, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    policy = policy_module.PolicyModel(adapted)
    policy(policy.layout(ROWS), mix=0.3).logprob.sum().backward()
    learned = [p.grad for p in policy.parameters() if p.requires_grad]
    assert learned
    assert all(slope is not None and bool((slope != 0).any()) for slope in learned)


def test_predictions_are_read_in_chunks():
    policy = tiny_policy("gpt2")
    layout = policy.layout(ROWS)
    states = policy.states(layout)
    assert torch.equal(most_likely(states, policy.logits, vocabulary=97), policy.logits(states).argmax(-1))


def test_terms_must_agree_on_what_they_read():
    assert shared_mix([]) == 0.0
    assert shared_mix([NegativeLogLikelihood()]) == 0.0
    assert shared_mix([IFT(mix=0.3), IFTPaper(mix=0.3)]) == 0.3
    assert shared_mix([IFT(mix=0.0), NegativeLogLikelihood()]) == 0.0
    with pytest.raises(RecipeError, match=r"need one mix, got IFT 0\.2, NegativeLogLikelihood 0"):
        shared_mix([IFT(), NegativeLogLikelihood()])
    with pytest.raises(RecipeError, match="need one mix"):
        shared_mix([IFT(mix=0.1), IFT(mix=0.2)])
