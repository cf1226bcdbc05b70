"""Expected gradients of methods, over every response of a small policy, against those of what they are to optimise."""

from dataclasses import replace

import pytest
import torch

from tabular_policies import Tabular, loss_of
from trueup.objectives import GRPO, PPO, RLOO, GRPOTokens, Reinforce, ReinforceNormalized, SuperHF

CLOSE = {"atol": 1e-12, "rtol": 1e-9}


def rewards(policy, seed=5):
    return torch.randn(len(policy.texts), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ascent(policy, reward, beta=0.0):
    """Gradient of `E[r] - beta KL(pi || ref)`."""
    own, other = policy.sequence(policy.policy), policy.sequence(policy.reference)
    return policy.gradient((own.exp() * (reward - beta * (own - other))).sum())


def descended(policy, term, batch, *, per=None):
    """The negative gradient of a term's mean over responses."""
    values = loss_of(term, term.prepare(batch))
    return -policy.gradient(values.sum() / (per or len(batch.prompt)))


@pytest.mark.parametrize("clip", [0.2, None])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_rloo_is_unbiased(clip, beta):
    policy = Tabular.make(2)
    reward = rewards(policy)
    found = descended(policy, RLOO(clip=clip), policy.pairs(reward=reward, beta=beta))
    assert torch.allclose(found, ascent(policy, reward, beta), **CLOSE)


def test_rloo_of_three_is_unbiased():
    policy = Tabular.make(2)
    reward = rewards(policy)
    drawn = policy.copies()
    three = torch.cartesian_prod(drawn, drawn, drawn).flatten()
    found = descended(policy, RLOO(), policy.batch(three, torch.arange(len(three)) // 3, reward=reward))
    assert torch.allclose(found, ascent(policy, reward), **CLOSE)


def test_reinforce_follows_the_expected_reward_less_the_kl():
    policy = Tabular.make(3)
    reward = rewards(policy)
    found = descended(policy, Reinforce(), policy.batch(policy.copies(), reward=reward, beta=0.2))
    assert torch.allclose(found, ascent(policy, reward, 0.2), **CLOSE)


def test_a_response_in_its_own_baseline_costs_one_nth():
    policy = Tabular.make(2)
    reward, mass = rewards(policy), policy.sequence(policy.policy).exp().detach()
    found = torch.zeros_like(policy.logits)
    for pair in torch.cartesian_prod(*[torch.arange(len(policy.texts))] * 2):
        found += mass[pair].prod() * descended(policy, Reinforce(), policy.batch(pair, reward=reward))
    assert torch.allclose(found, ascent(policy, reward) / 2, **CLOSE)


def test_normalised_reinforce_divides_by_the_deviation():
    policy = Tabular.make(3)
    reward, mass = rewards(policy), policy.sequence(policy.policy).exp().detach()
    variance = (mass * (reward - (mass * reward).sum()) ** 2).sum()
    found = descended(policy, ReinforceNormalized(), policy.batch(policy.copies(), reward=reward))
    assert torch.allclose(found, ascent(policy, reward) / variance.sqrt(), rtol=1e-6)


@pytest.mark.parametrize("term", [GRPO(scale=False), GRPOTokens(scale=False)])
def test_grpo_without_deviation_is_the_gradient_less_a_half_of_pairs(term):
    """A group's mean holds its own response: (K - 1) / K is left. GRPO divides by the length as well."""
    policy = Tabular.make(2, ends=False)
    reward = rewards(policy)
    found = descended(policy, term, policy.pairs(reward=reward))
    tokens = 2 if term.unit == "branch" else 1
    assert torch.allclose(found, ascent(policy, reward) / 2 / tokens, **CLOSE)


@pytest.mark.parametrize(("beta", "baseline"), [(0.0, 0.0), (0.3, 1.0)])
def test_ppo_with_all_that_follows_is_unbiased_whatever_the_value(beta, baseline):
    policy = Tabular.make(3)
    reward = rewards(policy)
    value = baseline * torch.randn(len(policy.prefixes), generator=torch.Generator().manual_seed(1)).double()
    batch = policy.batch(policy.copies(), reward=reward, beta=beta, baseline=value)
    found = descended(policy, PPO(lam=1.0, whiten_advantages=False), batch)
    assert torch.allclose(found, ascent(policy, reward, beta), **CLOSE)


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_ppo_with_the_true_value_is_unbiased_at_any_lambda(lam):
    policy = Tabular.make(3)
    reward, mass = rewards(policy), policy.sequence(policy.policy).exp().detach()
    through = [[len(t) > len(p) and t[: len(p)] == p for t in policy.texts] for p in policy.prefixes]
    weight = torch.tensor(through).double() * mass
    value = weight @ reward / weight.sum(1)
    batch = policy.batch(policy.copies(), reward=reward, baseline=value)
    found = descended(policy, PPO(lam=lam, whiten_advantages=False), batch)
    assert torch.allclose(found, ascent(policy, reward), **CLOSE)
    wrong = policy.batch(policy.copies(), reward=reward, baseline=value + torch.arange(len(value)))
    assert not torch.allclose(descended(policy, PPO(lam=lam, whiten_advantages=False), wrong), found, atol=1e-3)


@pytest.mark.parametrize("method", [RLOO(), PPO(lam=1.0, whiten_advantages=False), GRPO(scale=False)])
def test_clipping_binds_only_after_a_move(method):
    """Ratio 1.5 in the advantage's direction: nothing is left of the gradient."""
    policy = Tabular.make(2, ends=False)
    batch = policy.pairs(reward=rewards(policy), baseline=torch.zeros(len(policy.prefixes), dtype=torch.float64))
    prepared = method.prepare(batch)
    moved = replace(prepared, behaviour=prepared.behaviour - prepared.advantage.sign() * 0.5)
    loss = method(moved, {})
    assert policy.gradient(loss.values.sum()).abs().max() == 0
    assert torch.equal(loss.metrics["policy_clipped"] > 0, loss.values.detach() != 0)
    back = replace(prepared, behaviour=prepared.behaviour + prepared.advantage.sign() * 0.5)
    assert policy.gradient(method(back, {}).values.sum()).abs().max() > 0.01


def test_imitating_ones_own_single_samples_leads_nowhere():
    """One response to each prompt, or all of several kept: the expected gradient is 0."""
    policy = Tabular.make(3)
    single = descended(policy, SuperHF(), policy.batch(policy.copies(), reward=rewards(policy)))
    small = Tabular.make(2)
    both = descended(small, SuperHF(k=2), small.pairs(reward=rewards(small)))
    assert single.abs().max() < 1e-14
    assert both.abs().max() < 1e-14


@pytest.mark.parametrize("tied", [False, True])
def test_imitating_the_better_of_two_goes_to_the_best_of_two_law(tied):
    policy = Tabular.make(2)
    reward = rewards(policy).round() if tied else rewards(policy)
    assert tied == (len(reward.unique()) < len(reward))
    mass = policy.sequence(policy.policy).exp().detach()
    law = torch.zeros_like(mass)
    for level in reward.unique():
        here, below = reward == level, mass[reward < level].sum()
        law[here] = ((below + mass[here].sum()) ** 2 - below**2) * mass[here] / mass[here].sum()
    assert law.sum().item() == pytest.approx(1)
    batch = policy.pairs(reward=reward)
    found = descended(policy, SuperHF(), batch, per=len(batch.prompt) // 2)
    assert torch.allclose(found, policy.gradient((law * policy.sequence(policy.policy)).sum()), **CLOSE)
