"""Entropy, whole-vocabulary divergence and values of a policy, against the plain model's logits and states."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tiny_models import FAMILIES
from tiny_policies import VOCABULARY, reply_rows, tiny_policy
from trueup.functional import logprobs
from trueup.models.heads.value import with_value_head
from trueup.models.policy import PolicyModel, reference_states

ROWS = reply_rows(6)
WAYS = [(family, "trees") for family in sorted(FAMILIES)] + [("llama", "mask"), ("llama", "separate")]

# Families of Llama's kind normalise in float32, whatever the weights' type.
ROUNDING = 2e-5


def plain(policy: PolicyModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the whole vocabulary and last states before each reply token, one sequence at a time."""
    config = policy.core.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    tables, states = [], []
    for row in ROWS:
        for sequence in row.sequences():
            out = policy.core(torch.from_numpy(sequence).long()[None], output_hidden_states=True)
            where = slice(row.prompt_length - 1, -1)
            tables.append(out.logits[0, where].log_softmax(-1))
            states.append(out.hidden_states[-1][0, where])
    config._attn_implementation = before
    return torch.cat(tables), torch.cat(states)


def settled(family: str, sharing: str) -> PolicyModel:
    policy = tiny_policy(family)
    policy.settle(sharing)
    return policy


def moved(policy: PolicyModel, *, seed: int = 5) -> PolicyModel:
    """The same policy after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))
    return policy


def adapted(policy: PolicyModel, **changes: object) -> PolicyModel:
    """The same policy with an adapter that changes it."""
    torch.manual_seed(2)
    settings = {"target_modules": "all-linear"} | changes
    lora = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **settings)
    return PolicyModel(get_peft_model(policy.core, lora)).eval()


@pytest.mark.parametrize(("family", "sharing"), WAYS)
def test_everything_is_what_the_plain_model_makes_of_it(family: str, sharing: str) -> None:
    policy, reference = with_value_head(moved(settled(family, sharing))), settled(family, "trees")
    with torch.no_grad():
        policy.value_head.weight.normal_()
        policy.value_head.bias.fill_(0.3)
        out = policy(policy.layout(ROWS), entropy=True, value=True, reference=reference_states(reference, ROWS))
        logp, states = plain(policy)
        logq, _ = plain(reference)
    assert torch.allclose(out.entropy, -(logp.exp() * logp).sum(-1), atol=ROUNDING)
    assert torch.allclose(out.forward_kl, (logq.exp() * (logq - logp)).sum(-1), atol=ROUNDING)
    assert torch.allclose(out.value, policy.value_head(states), atol=ROUNDING)
    assert torch.equal(out.logprob, policy(policy.layout(ROWS)).logprob)


@pytest.mark.parametrize("entries", [10**6, VOCABULARY * 12])
def test_gradients_are_those_of_the_plain_model(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "_ENTRIES", entries)
    policy, reference = with_value_head(moved(tiny_policy())), tiny_policy()
    compared = reference_states(reference, ROWS)
    with torch.no_grad():
        policy.value_head.weight.normal_()
    logq, _ = plain(reference)
    targets = torch.cat([torch.from_numpy(s[row.prompt_length :]).long() for row in ROWS for s in row.sequences()])
    weight = torch.randn(4, len(targets), dtype=torch.float64)

    def ours() -> tuple[torch.Tensor, ...]:
        out = policy(policy.layout(ROWS), entropy=True, value=True, reference=compared)
        return out.logprob, out.entropy, out.forward_kl, out.value

    def dense() -> tuple[torch.Tensor, ...]:
        logp, states = plain(policy)
        chosen = logp.gather(-1, targets[:, None])[:, 0]
        divergence = (logq.detach().exp() * (logq.detach() - logp)).sum(-1)
        return chosen, -(logp.exp() * logp).sum(-1), divergence, policy.value_head(states)

    grads = []
    for how in (ours, dense):
        policy.zero_grad()
        (torch.stack(how()) * weight).sum().backward()
        grads.append({name: p.grad.clone() for name, p in policy.named_parameters()})
    assert {"value_head.weight", "value_head.bias"} <= set(grads[0])
    for name, grad in grads[1].items():
        assert float((grads[0][name] - grad).abs().max()) < ROUNDING * max(float(grad.abs().max()), 1.0), name
    assert all(p.grad is None for p in reference.parameters())


@pytest.mark.parametrize("sharing", ["trees", "separate"])
@pytest.mark.parametrize(
    "changes", [{}, {"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}], ids=str
)
def test_the_base_of_an_adapter_is_a_reference_without_a_second_model(sharing: str, changes: dict) -> None:
    policy = adapted(tiny_policy(), **changes)
    with torch.no_grad():
        if "modules_to_save" in changes:
            policy.core.get_output_embeddings().modules_to_save["default"].weight.mul_(1.1)
    policy.settle(sharing)
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    found = policy(policy.layout(ROWS), reference="base")
    with torch.no_grad():
        expected = policy(policy.layout(ROWS), reference=reference_states(tiny_policy(), ROWS))
    assert float(expected.forward_kl.mean()) > 1e-2
    assert torch.allclose(found.forward_kl, expected.forward_kl, atol=1e-8)
    assert torch.allclose(found.logprob, expected.logprob, atol=1e-8)
    found.forward_kl.sum().backward()
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == trained
    assert {name for name, p in policy.named_parameters() if p.grad is not None} == trained


def test_a_policy_does_not_differ_from_itself() -> None:
    policy = tiny_policy()
    out = policy(policy.layout(ROWS), reference=reference_states(policy, ROWS))
    assert float(out.forward_kl.detach().abs().max()) < 1e-14
    out.forward_kl.sum().backward()
    assert all(float(p.grad.abs().max()) < 1e-12 for p in policy.parameters() if p.grad is not None)


def test_nothing_is_read_that_was_not_asked_for() -> None:
    policy = with_value_head(tiny_policy())
    out = policy(policy.layout(ROWS))
    assert (out.entropy, out.forward_kl, out.value) == (None, None, None)


def test_what_the_model_lacks_is_said() -> None:
    policy = tiny_policy()
    with pytest.raises(ValueError, match="no value head"):
        policy(policy.layout(ROWS), value=True)
    with pytest.raises(ValueError, match="no adapter"):
        policy(policy.layout(ROWS), reference="base")
