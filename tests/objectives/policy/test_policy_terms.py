"""Values worked by hand, limits and refusals of single methods and terms."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tabular_policies import Tabular, loss_of
from trueup.errors import RecipeError
from trueup.objectives import (
    GRPO,
    PPO,
    RLOO,
    ChiSquared,
    ForwardKL,
    ForwardKLPrior,
    ForwardKLPriorSum,
    GRPOTokens,
    Reinforce,
    ReinforceNormalized,
    ReleasedSqrtChiSquared,
    ReverseKL,
    SqrtChiSquared,
    SuperHF,
    Tsallis,
    ValueLoss,
)
from trueup.objectives.example import two_groups
from trueup.objectives.policy.superhf import best_of_each


def advantages(term, batch=None):
    return term.prepare(batch or two_groups()).advantage.tolist()


def test_rloo_of_two_by_hand():
    """Rewards 3 and 1: advantages 2 and -2; at ratio 1.1 the loss is -2.2 and 2.2, and the gradient the same."""
    rloo = RLOO()
    batch = rloo.prepare(two_groups())
    assert batch.advantage.tolist() == [2.0, 2.0, -2.0, 0.0, 0.0, 0.0]
    moved = replace(batch, behaviour=batch.behaviour - torch.tensor([0.05, 0.05, 0.1, 0, 0, 0]) * math.log(1.1) / 0.1)
    values = rloo(moved, {}).values
    assert values.tolist() == pytest.approx([-2.2, 2.2, 0, 0])
    (slope,) = torch.autograd.grad(values.sum(), batch.logprob)
    assert slope.tolist() == pytest.approx([-2.2, -2.2, 2.2, 0, 0, 0])


def test_rloo_clips_the_ratio_of_the_whole_response():
    """Two tokens at ratio 1.15 are each inside the clip and together beyond it."""
    rloo, ppo_like = RLOO(), GRPO()
    batch = rloo.prepare(two_groups())
    moved = replace(batch, behaviour=batch.behaviour - math.log(1.15))
    assert rloo(moved, {}).metrics["policy_clipped"].tolist() == [1, 0, 0, 0]
    assert ppo_like(moved, {}).metrics["policy_clipped"].tolist() == [0, 0, 0, 0]


def test_rewards_of_tokens_add_up_for_methods_of_whole_responses():
    batch = two_groups()
    spread = replace(batch, token_reward=torch.tensor([2.0, 1.0, 1.0, 2.0, 3.0, -1.0], dtype=torch.float64))
    for term in (RLOO(), Reinforce(), ReinforceNormalized()):
        assert advantages(term, spread) == advantages(term)


def test_grpo_takes_the_reward_without_kl():
    batch = two_groups()
    other = replace(batch, token_reward=batch.token_reward + 7)
    for term in (GRPO(), GRPOTokens()):
        assert advantages(term, other) == advantages(term)
        assert advantages(term)[0] == pytest.approx(1 / (math.sqrt(2) + 1e-4))


def test_grpo_by_tokens_and_by_responses_agree_when_all_are_equally_long():
    policy = Tabular.make(2, ends=False)
    batch = policy.pairs(reward=torch.arange(len(policy.texts)).double())
    batch = replace(GRPO().prepare(batch), behaviour=batch.behaviour - 0.3 * batch.logprob.detach())
    by_response, by_token = GRPO()(batch, {}).values.mean(), GRPOTokens()(batch, {}).values.mean()
    assert by_response.item() == pytest.approx(by_token.item())


@given(shift=st.floats(-100, 100), scale=st.floats(0.5, 50))
def test_normalised_methods_do_not_see_shift_or_scale(shift, scale):
    batch = two_groups()
    last = torch.tensor([0, 1, 1, 1, 0, 1], dtype=torch.float64)
    other = replace(
        batch,
        reward=scale * batch.reward + shift,
        token_reward=scale * batch.token_reward + shift * last,
    )
    assert advantages(ReinforceNormalized(), other) == pytest.approx(advantages(ReinforceNormalized()), abs=1e-6)
    assert advantages(GRPO(), other) == pytest.approx(advantages(GRPO()), abs=1e-3)
    assert advantages(RLOO(), other) == pytest.approx([scale * a for a in advantages(RLOO())], abs=1e-6)


def test_ppo_by_hand():
    """Values 1, 2 and reward 3 at the end: deltas 2 - 1 and 3 - 2, so advantages 1 + 0.95 and 1; returns 2.95, 3."""
    batch = PPO(whiten_advantages=False).prepare(two_groups())
    assert batch.advantage[:2].tolist() == pytest.approx([1.95, 1.0])
    assert batch.returns[:2].tolist() == pytest.approx([2.95, 3.0])
    white = PPO().prepare(two_groups())
    assert white.advantage.mean().item() == pytest.approx(0, abs=1e-12)
    assert white.advantage.var(correction=0).item() == pytest.approx(1)
    assert torch.equal(white.returns, batch.returns)


def test_the_value_loss_by_hand():
    """Moved from 0 to 1 with returns 1: the clipped 0.2 is still 0.8 off, so 0.32 is charged, without a gradient."""
    batch = two_groups()
    zeros = torch.zeros_like(batch.old_value)
    value = torch.ones_like(zeros).requires_grad_()
    given_batch = replace(batch, value=value, old_value=zeros, returns=torch.ones_like(zeros))
    values = ValueLoss()(given_batch, {}).values
    assert values.tolist() == pytest.approx([0.32] * 6)
    assert torch.autograd.grad(values.sum(), value)[0].abs().max() == 0
    assert ValueLoss(clip=None)(given_batch, {}).values.abs().max() == 0
    further = replace(given_batch, returns=torch.full_like(zeros, 3.0))
    assert ValueLoss(clip=None, coefficient=0.5)(further, {}).values.tolist() == pytest.approx([1.0] * 6)


@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=6), min_size=1, max_size=4), k=st.integers(1, 4))
def test_the_best_k_are_kept_and_of_equal_ones_the_first(rows, k):
    expected = []
    for row in rows:
        best = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
        expected += [i in best for i in range(len(row))]
    reward = torch.tensor([float(x) for row in rows for x in row])
    prompt = torch.tensor([i for i, row in enumerate(rows) for _ in row])
    assert best_of_each(reward, prompt, k).tolist() == expected


def test_superhf_learns_from_what_it_kept_alone():
    superhf = SuperHF()
    batch = superhf.prepare(two_groups())
    loss = superhf(batch, {})
    assert loss.mask.tolist() == [True, True, False, True, False, False]
    (slope,) = torch.autograd.grad(loss_of(superhf, batch).sum(), batch.logprob)
    assert slope.tolist() == [-1, -1, 0, -1, 0, 0]


def test_duplicates_leave_the_mean_and_double_the_sum():
    once = two_groups()
    twice = replace(
        once,
        logprob=once.logprob.repeat(2),
        branch=torch.cat([once.branch, once.branch + 4]),
        prompt=once.prompt.repeat(2),
        forward_kl=once.forward_kl.repeat(2),
    )
    for term, factor in ((ForwardKLPrior(), 1), (ForwardKLPriorSum(), 2)):
        assert loss_of(term, twice).mean().item() == pytest.approx(factor * loss_of(term, once).mean().item())
    assert -twice.logprob.mean() == -once.logprob.mean()
    assert loss_of(ForwardKLPriorSum(), once).mean().item() == pytest.approx(0.35 * (0.2 + 0 + 0.4 + 0.2))


def test_rounding_below_0_is_no_reward():
    batch = replace(two_groups(), forward_kl=torch.full((6,), -1e-6, requires_grad=True))
    assert loss_of(ForwardKLPrior(), batch).abs().max() == 0


def test_nothing_is_held_at_the_reference():
    batch = two_groups()
    batch = replace(batch, reference=batch.logprob.detach())
    for term in (ReverseKL(), ForwardKL(), ChiSquared(), SqrtChiSquared(), Tsallis(), ReleasedSqrtChiSquared()):
        (slope,) = torch.autograd.grad(loss_of(term, batch).sum(), batch.logprob)
        assert slope.abs().max() == 0


def test_below_the_floor_the_root_still_pulls_and_the_released_one_does_not():
    batch = two_groups()
    near = replace(batch, reference=batch.logprob.detach() - 1e-4)
    (ours,) = torch.autograd.grad(loss_of(SqrtChiSquared(), near).sum(), near.logprob)
    (released,) = torch.autograd.grad(loss_of(ReleasedSqrtChiSquared(), near).sum(), near.logprob)
    assert (ours > 0).all()
    assert (released == 0).all()
    assert loss_of(ReleasedSqrtChiSquared(coefficient=1), near).tolist() == pytest.approx([0.01] * 4)


def test_far_from_the_reference_all_stays_finite_and_is_counted():
    batch = two_groups()
    for sign in (1, -1):
        far = replace(batch, reference=batch.logprob.detach() + 150.0 * sign)
        for term in (ForwardKL(), ChiSquared(), SqrtChiSquared(), Tsallis(), ReleasedSqrtChiSquared()):
            values = loss_of(term, far)
            (slope,) = torch.autograd.grad(values.sum(), far.logprob)
            assert values.isfinite().all()
            assert slope.isfinite().all()
        assert ChiSquared()(far, {}).metrics["chi2_beyond_limit"].tolist() == [1] * 4
        assert ForwardKL()(far, {}).metrics["forward_kl_beyond_limit"].tolist() == [float(sign > 0)] * 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RLOO(clip=0), "clip must be positive, got 0"),
        (lambda: PPO(gamma=0), r"gamma must lie in \(0, 1\], got 0"),
        (lambda: PPO(lam=1.5), r"lam must lie in \[0, 1\], got 1.5"),
        (lambda: SuperHF(k=0), "k must be positive, got 0"),
        (lambda: ReverseKL(coefficient=-1), "coefficient must not be negative, got -1"),
        (lambda: Tsallis(index=0), "index must be positive, got 0"),
        (lambda: SqrtChiSquared(floor=0), "floor must be positive, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(RecipeError, match=words):
        make()


def test_a_single_response_is_refused_by_rloo():
    batch = replace(two_groups(), prompt=torch.arange(4))
    with pytest.raises(RecipeError, match="at least 2"):
        RLOO().prepare(batch)
